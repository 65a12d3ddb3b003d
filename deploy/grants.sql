-- The role that runs the nights, and all that it may do in the platform's database.
--
-- Run it as the owner of the platform's tables, after `bkt-pipeline migrate`:
--
--     DATABASE_URL=postgresql://owner@host/platform bkt-pipeline migrate
--     psql postgresql://owner@host/platform --file deploy/grants.sql
--
-- The owner need be no superuser. It takes the right to create schemas in the database, as migrating does, and
-- CREATEROLE; or instead of that an administrator who has said before:
--
--     CREATE ROLE bkt_nightly LOGIN; GRANT bkt_nightly TO owner;
--
-- It may be run again at any time. The role gets no password here: \password bkt_nightly.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bkt_nightly') THEN
        CREATE ROLE bkt_nightly LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
END
$$;

-- What it reads.
GRANT SELECT ON skills, items, attempts TO bkt_nightly;

-- What the backend reads. No DELETE: a row once stored is only ever replaced by a better one.
GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO bkt_nightly;

-- Where the item calibration is to be written back to the items:
-- GRANT UPDATE (irt_a, irt_b, irt_calibrated_at) ON items TO bkt_nightly;

-- Its own rows. The tables that hold them belong to whoever migrates, so that migrations alone alter them.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bkt_pipeline TO bkt_nightly;
REVOKE INSERT, UPDATE, DELETE ON bkt_pipeline.alembic_version FROM bkt_nightly;

-- Whoever migrates is a member of the role, and so may go on making tables in a schema that is the role's. What a later
-- migration makes there is granted as the others are.
DO $$
DECLARE
    migrator regrole := (SELECT relowner FROM pg_class WHERE oid = 'bkt_pipeline.alembic_version'::regclass);
BEGIN
    IF NOT pg_has_role(migrator, 'bkt_nightly', 'USAGE') THEN
        EXECUTE format('GRANT bkt_nightly TO %s', migrator);
    END IF;
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA bkt_pipeline'
        ' GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bkt_nightly',
        migrator
    );
END
$$;

-- Its own schema. Whoever owns a schema may make things in it, and drop what is in it, whoever made that; a night does
-- neither. What would be lost: `bkt-pipeline migrate`, this file and a night make it all again but for the history, which
-- is the ledger and the parameters of earlier nights. Nothing of the platform's is in there; but its views of our tables,
-- where it has made any, would go with them.
-- Where the role has been in wrong hands, look before the next migration whether all tables are still the migrator's
-- (\dt bkt_pipeline.*): the triggers of one that was put in the place of ours would run with the migrator's rights.
ALTER SCHEMA bkt_pipeline OWNER TO bkt_nightly;
