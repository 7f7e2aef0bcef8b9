\echo Use "CREATE EXTENSION headwater" to load this file. \quit

CREATE FUNCTION headwater.version() RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_version';
COMMENT ON FUNCTION headwater.version() IS
    'the release of the loaded headwater library';

-- Not STRICT: a row whose columns are all null is a row. PARALLEL UNSAFE: a value whose
-- output function fails is caught in a subtransaction, which cannot begin in parallel mode.
CREATE FUNCTION headwater.encode("row" record, VARIADIC options text[] DEFAULT '{}')
    RETURNS bytea
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'headwater_encode';
COMMENT ON FUNCTION headwater.encode(record, text[]) IS
    'a table''s row as the output plugin would send it, with the plugin''s options as name=value';

CREATE FUNCTION headwater.relation(relation regclass, VARIADIC options text[] DEFAULT '{}')
    RETURNS bytea
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_relation';
COMMENT ON FUNCTION headwater.relation(regclass, text[]) IS
    'the relation frame that the output plugin would send ahead of the table''s rows';

GRANT USAGE ON SCHEMA headwater TO PUBLIC;
