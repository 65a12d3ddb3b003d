-- The role that runs the nights, and all that it may do in the platform's database.
--
-- Run it as the owner of the tables, after `bkt-pipeline migrate`:
--
--     DATABASE_URL=postgresql://owner@host/platform bkt-pipeline migrate
--     psql postgresql://owner@host/platform --file deploy/grants.sql
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

-- Its own rows, in a schema that it does not own: an owner may alter and drop all that is in it, and a night needs
-- none of that. Schema and tables belong to whoever runs the migrations, which is another role.
GRANT USAGE ON SCHEMA bkt_pipeline TO bkt_nightly;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bkt_pipeline TO bkt_nightly;
REVOKE INSERT, UPDATE, DELETE ON bkt_pipeline.alembic_version FROM bkt_nightly;
-- The same for what a later migration by the same owner makes.
ALTER DEFAULT PRIVILEGES IN SCHEMA bkt_pipeline
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bkt_nightly;
