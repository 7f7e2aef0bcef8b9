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

-- tableoid says which partition stores a row that was read through its table: what is excluded under
-- the partition's own name is known by nothing else.
CREATE FUNCTION headwater.encode(stored_in regclass, "row" record, VARIADIC options text[] DEFAULT '{}')
    RETURNS bytea
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'headwater_encode_stored';
COMMENT ON FUNCTION headwater.encode(regclass, record, text[]) IS
    'as encode(row), of rows of a partitioned table, with tableoid: less what is excluded of the partition, null if that is all';

CREATE FUNCTION headwater.relation(relation regclass, VARIADIC options text[] DEFAULT '{}')
    RETURNS bytea
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_relation';
COMMENT ON FUNCTION headwater.relation(regclass, text[]) IS
    'what the output plugin would send ahead of the table''s rows: the relation frame, and under format=avro the frame of its schemas';

CREATE FUNCTION headwater.avro_schema(relation regclass, part text, VARIADIC options text[] DEFAULT '{}')
    RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_avro_schema';
COMMENT ON FUNCTION headwater.avro_schema(regclass, text, text[]) IS
    'the Avro schema of the ''key'' (null without one) or the ''value'' of the table''s records, under the plugin''s options';

CREATE FUNCTION headwater.json_schema(relation regclass, VARIADIC options text[] DEFAULT '{}')
    RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_json_schema';
COMMENT ON FUNCTION headwater.json_schema(regclass, text[]) IS
    'the JSON Schema (draft 2020-12) of the table''s rows as the output plugin writes them, under the plugin''s options';

CREATE FUNCTION headwater.topic(relation regclass, VARIADIC options text[] DEFAULT '{}')
    RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'headwater_topic';
COMMENT ON FUNCTION headwater.topic(regclass, text[]) IS
    'the topic of the table''s records where the client is given no template and no prefix';

-- Reads the table with the caller's rights. A row that would be quarantined has no line of its own: its
-- envelope says why. Key and row are one line with a tab between them, which
-- stands nowhere else: within JSON it is escaped. Every function and operator is named with its
-- schema: the server's own for arrays is polymorphic, and one that somebody had made in the caller's
-- search_path for text[] would be taken first and run with the caller's rights.
CREATE FUNCTION headwater.preview(relation regclass, rows integer DEFAULT 10, VARIADIC options text[] DEFAULT '{}')
    RETURNS TABLE (topic text, key text, value text)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    AS $$
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format(
        'SELECT headwater.topic($1, VARIADIC $3),
                CASE WHEN shown.reason IS NOT NULL
                     THEN pg_catalog.json_extract_path_text(shown.envelope, ''key'')
                     WHEN shown.line OPERATOR(pg_catalog.~~) E''\t%%'' THEN NULL
                     ELSE pg_catalog.split_part(shown.line, E''\t'', 1) END,
                CASE WHEN shown.reason IS NOT NULL
                     THEN ''quarantined: '' OPERATOR(pg_catalog.||) shown.reason
                     ELSE pg_catalog.split_part(shown.line, E''\t'', 2) END
         FROM (SELECT encoded.line, told.envelope,
                      pg_catalog.json_extract_path_text(told.envelope, ''quarantined'')
               FROM %1$s AS t
               CROSS JOIN LATERAL (
                   SELECT pg_catalog.convert_from(headwater.encode(%2$s, VARIADIC $4), ''UTF8'')
               ) AS encoded (line)
               CROSS JOIN LATERAL (
                   SELECT CASE WHEN encoded.line OPERATOR(pg_catalog.=) '''' THEN
                       pg_catalog.convert_from(headwater.encode(%2$s, VARIADIC $5), ''UTF8'')
                       ::pg_catalog.json END
               ) AS told (envelope)
               WHERE encoded.line IS NOT NULL
               LIMIT $2) AS shown (line, envelope, reason)', relation,
        (SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' THEN 't.tableoid, t.*' ELSE 't.*' END
         FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) relation))
        USING relation, rows, options,
              pg_catalog.array_cat(options, '{output=lines,envelope=row}'::pg_catalog.text[]),
              pg_catalog.array_cat(options, '{output=lines,envelope=change}'::pg_catalog.text[]);
END
$$;
COMMENT ON FUNCTION headwater.preview(regclass, integer, text[]) IS
    'what would be sent of some rows of the table: topic, key and value, as JSON; of a row that would be quarantined, why';

-- The setting itself is shown to superusers and members of pg_read_all_settings alone. To a role that
-- may replicate the server tells it anyway, in its error, at the first slot; so do we, before there
-- is one. Null for others, and on releases that know no such setting.
CREATE FUNCTION headwater.output_plugins() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog
    AS $$
        SELECT pg_catalog.current_setting('output_plugin_libraries', true)
        FROM pg_catalog.pg_roles r
        WHERE r.rolname = session_user AND (r.rolreplication OR r.rolsuper)
    $$;
COMMENT ON FUNCTION headwater.output_plugins() IS
    'what output_plugin_libraries lists, for roles that may replicate';

-- What pg_replication_slots, which everybody may read, has of slots of this plugin, with the distances
-- that people ask it for. The WAL's end is that of the primary, or what a standby has replayed.
CREATE VIEW headwater.slots AS
    SELECT s.slot_name AS slot,
           s.database,
           s.active,
           s.active_pid,
           s.restart_lsn,
           s.confirmed_flush_lsn,
           CASE WHEN s.wal_status IS DISTINCT FROM 'lost'
                THEN pg_catalog.pg_wal_lsn_diff(w.wal_end, s.restart_lsn)::bigint
           END AS retained_wal_bytes,
           pg_catalog.pg_wal_lsn_diff(w.wal_end, s.confirmed_flush_lsn)::bigint AS lag_bytes,
           s.wal_status,
           s.safe_wal_size
    FROM pg_catalog.pg_replication_slots AS s,
         (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                      ELSE pg_catalog.pg_current_wal_lsn() END) AS w (wal_end)
    WHERE s.plugin OPERATOR(pg_catalog.=) 'headwater';
COMMENT ON VIEW headwater.slots IS
    'the replication slots of all databases whose plugin is headwater: who reads them, how far they are and what they keep';
COMMENT ON COLUMN headwater.slots.retained_wal_bytes IS
    'WAL that the server keeps for the slot; null if it has lost what it needs';
COMMENT ON COLUMN headwater.slots.lag_bytes IS
    'WAL written since the last position that the reader has acknowledged';
COMMENT ON COLUMN headwater.slots.safe_wal_size IS
    'bytes that can be written before the slot is in danger of losing WAL; null without max_slot_wal_keep_size';
GRANT SELECT ON headwater.slots TO PUBLIC;

GRANT USAGE ON SCHEMA headwater TO PUBLIC;
