-- The console's database, with two roles: the owner makes the tables (`python -m services.console
-- migrate`), the console reads and writes their rows and can make, change or drop none. Run it once
-- as a superuser; it may run again. Passwords come from two files, named by variables:
--   CONSOLE_PASSWORD_FILE=... CONSOLE_OWNER_PASSWORD_FILE=... psql -v ON_ERROR_STOP=1 -f roles.sql
\set password `cat "$CONSOLE_PASSWORD_FILE"`
\set owner_password `cat "$CONSOLE_OWNER_PASSWORD_FILE"`
SET password_encryption = 'scram-sha-256';
SELECT 'CREATE ROLE console' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'console') \gexec
SELECT 'CREATE ROLE console_owner'
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'console_owner') \gexec
ALTER ROLE console LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER ROLE console_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
SELECT 'CREATE DATABASE console OWNER console_owner'
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'console') \gexec
REVOKE ALL ON DATABASE console FROM PUBLIC;
GRANT CONNECT ON DATABASE console TO console;
\connect console
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS console AUTHORIZATION console_owner;
GRANT USAGE ON SCHEMA console TO console;
ALTER ROLE console IN DATABASE console SET search_path = console;
ALTER ROLE console_owner IN DATABASE console SET search_path = console;
ALTER DEFAULT PRIVILEGES FOR ROLE console_owner IN SCHEMA console
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO console;
ALTER DEFAULT PRIVILEGES FOR ROLE console_owner IN SCHEMA console
  GRANT USAGE, SELECT ON SEQUENCES TO console;
-- Two tables are not the console's to change, whenever they are made: the audit trail is only ever
-- added to, at its end (the database alone numbers its rows), and the list of migrations is the
-- owner's.
CREATE OR REPLACE FUNCTION public.keep_from_console() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass('console.audit_event') IS NOT NULL THEN
    REVOKE INSERT, UPDATE, DELETE ON console.audit_event FROM console;
    EXECUTE (
      SELECT format('GRANT INSERT (%s) ON console.audit_event TO console',
                    string_agg(quote_ident(attname), ', '))
      FROM pg_attribute
      WHERE attrelid = to_regclass('console.audit_event') AND attnum > 0 AND NOT attisdropped
        AND attname <> 'id'
    );
  END IF;
  IF to_regclass('console.django_migrations') IS NOT NULL THEN
    REVOKE INSERT, UPDATE, DELETE ON console.django_migrations FROM console;
  END IF;
END $$;
DROP EVENT TRIGGER IF EXISTS keep_from_console;
CREATE EVENT TRIGGER keep_from_console ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
  EXECUTE FUNCTION public.keep_from_console();
-- Of a trail that is there already: the change changes nothing, and has the trigger run.
ALTER TABLE IF EXISTS console.audit_event OWNER TO console_owner;
