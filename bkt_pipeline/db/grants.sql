-- The roles of the nights and of the backend, and all of their rights in the platform's database.
--
-- Run it as the owner of the platform's tables, after `bkt-pipeline migrate`:
--
--     DATABASE_URL=postgresql://owner@host/platform bkt-pipeline migrate
--     bkt-pipeline migrate --print-grants | psql postgresql://owner@host/platform
--
-- The owner need not be a superuser. It needs the right to create schemas in the database (as migrating does) and
-- CREATEROLE. Without CREATEROLE, an administrator must first run:
--
--     CREATE ROLE bkt_nightly LOGIN; GRANT bkt_nightly TO owner; CREATE ROLE bkt_backend;
--
-- This is one transaction, which stops at the first error, and may be run again at any time. It sets no password for the
-- role; to do so: \password bkt_nightly

\set ON_ERROR_STOP on
BEGIN;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bkt_nightly') THEN
        CREATE ROLE bkt_nightly LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bkt_backend') THEN
        CREATE ROLE bkt_backend NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
END
$$;

-- The platform's tables that a night reads.
GRANT SELECT ON skills, items, attempts TO bkt_nightly;

-- The table that the backend reads. No DELETE, because a stored row is only ever replaced by a newer one.
GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO bkt_nightly;

-- The platform's mastery, where it has the table, for BKT_THETA_FROM=mastery.
DO $$
BEGIN
    IF to_regclass('student_skill_mastery') IS NOT NULL THEN
        GRANT SELECT ON student_skill_mastery TO bkt_nightly;
    END IF;
END
$$;

-- To let the item calibration update the platform's items, also run:
-- GRANT UPDATE (irt_a, irt_b, irt_calibrated_at) ON items TO bkt_nightly;

-- The role's own rows. The tables belong to the role that migrates, so that only migrations can alter them.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bkt_pipeline TO bkt_nightly;
REVOKE INSERT, UPDATE, DELETE ON bkt_pipeline.alembic_version FROM bkt_nightly;

-- What the platform's backend may do: read the parameters of every active skill, and compute the update after an answer.
-- To let it: GRANT bkt_backend TO the role with which your backend connects. The view reads skills and skill_bkt_params
-- with the rights of its owner, so the backend needs none on them, and row-level security of theirs does not apply to it.
GRANT USAGE ON SCHEMA bkt_pipeline TO bkt_backend;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bkt_pipeline TO bkt_backend;
DO $$
BEGIN
    IF to_regclass('bkt_pipeline.current_params') IS NOT NULL THEN
        GRANT SELECT ON bkt_pipeline.current_params TO bkt_backend;
    END IF;
END
$$;

-- The migrating role is made a member of bkt_nightly, so that it can go on creating tables in the schema, which
-- bkt_nightly will own. Tables from later migrations get the same grants.
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

-- The role owns the schema. The owner of a schema may create objects in it and drop any object in it; a night does
-- neither. If objects were dropped, `bkt-pipeline migrate`, this file and a night create everything again except the
-- history: the ledger and the parameters of earlier nights. The schema contains nothing of the platform's, but views
-- that the platform has made of our tables would be dropped with them.
-- If the role has been compromised, check before the next migration that all tables still belong to the migrating role
-- (\dt bkt_pipeline.*): triggers of a table put in place of ours would run with that role's rights.
ALTER SCHEMA bkt_pipeline OWNER TO bkt_nightly;

COMMIT;
