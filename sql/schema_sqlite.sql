-- The tables of vm_ha for SQLite, the embedded default. The controller runs this file where it finds older tables or none, after
-- upgrade_sqlite_N.sql for each version N that they lack; running it twice is harmless.
-- create_vmha_database.sql makes the same tables on MariaDB and MySQL; a test compares the two.
-- Times: DATETIME columns are UTC text, as people's own queries expect; *_at and *_until columns are Unix seconds, UTC.

CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER NOT NULL PRIMARY KEY,
    applied_at DOUBLE NOT NULL
);

-- What was reported. One row per report; immutable but for progress, recover_to, outcome and what belongs to them.
CREATE TABLE IF NOT EXISTS notification_list (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INTEGER NOT NULL DEFAULT 0,
    notification_id VARCHAR(255),
    notification_type VARCHAR(255),
    notification_regionID VARCHAR(255),
    notification_hostname VARCHAR(255),
    notification_uuid VARCHAR(255),
    notification_time DATETIME,
    notification_eventID VARCHAR(255),
    notification_eventType VARCHAR(255),
    notification_detail VARCHAR(255),
    notification_startTime DATETIME,
    notification_endTime DATETIME,
    notification_tzname VARCHAR(255),
    notification_daylight VARCHAR(255),
    notification_cluster_port VARCHAR(255),
    progress INTEGER,                       -- 0 new, 1 running or held, 2 finished, 3 failed, 4 ignored, expired or cancelled
    recover_by INTEGER,                     -- 0 host, 1 instance, 2 process
    iscsi_ip VARCHAR(255),
    controle_ip VARCHAR(255),
    recover_to VARCHAR(255),
    report_key VARCHAR(255) UNIQUE,         -- notification_id; NULL on rows of 2015 that repeat an id
    received_at DOUBLE,
    self_report TINYINT NOT NULL DEFAULT 0, -- 1: sent by the host it is about, so that host was alive when it arrived
    observer VARCHAR(255),
    key_id VARCHAR(255),                    -- of the signature; NULL: unsigned
    trusted TINYINT NOT NULL DEFAULT 1,     -- 0: unsigned, kept back until released
    outcome VARCHAR(32),                    -- opened, joined, ignored, noted
    reason VARCHAR(1000),
    recovery_id BIGINT,
    generated_at DOUBLE,                    -- when the failure was noticed, by the reporter's clock; else received_at
    body MEDIUMTEXT                         -- the report as it came, fields unknown to us included
);
CREATE INDEX IF NOT EXISTS notification_recovery ON notification_list (recovery_id);
CREATE INDEX IF NOT EXISTS notification_alive ON notification_list (notification_hostname, self_report, trusted, received_at);
CREATE INDEX IF NOT EXISTS notification_created ON notification_list (create_at);
CREATE INDEX IF NOT EXISTS notification_progress ON notification_list (progress, id);
CREATE INDEX IF NOT EXISTS notification_generated ON notification_list (generated_at, id);

-- One row per instance to recover. The action columns are the intent: what Nova was asked, or is about to be asked.
CREATE TABLE IF NOT EXISTS vm_list (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INTEGER NOT NULL DEFAULT 0,
    uuid VARCHAR(255),
    progress INTEGER,                       -- as in notification_list
    retry_cnt INTEGER NOT NULL DEFAULT 0,   -- tries that ended without success
    notification_id VARCHAR(255),
    recover_to VARCHAR(255),
    recover_by INTEGER,
    recovery_id BIGINT,
    active_key VARCHAR(600) UNIQUE,         -- instance:<uuid>; NULL once final: one recovery at a time may act on an instance
    name VARCHAR(255),
    status VARCHAR(16),                     -- new, running, finished, failed, skipped
    reason VARCHAR(1000),
    priority INTEGER NOT NULL DEFAULT 0,    -- order of evacuation, lowest first
    was VARCHAR(1000),                      -- JSON: how the instance was before: vm_state, power_state
    action VARCHAR(32),                     -- evacuate, reset_state, stop, start, pause; NULL: nothing under way
    action_at DOUBLE,
    action_answer VARCHAR(16),              -- NULL: no answer yet; accepted; maybe: no answer below 500
    action_target VARCHAR(255),
    migration_seen BIGINT NOT NULL DEFAULT 0, -- newest evacuation of this instance before the action
    request_id VARCHAR(255),
    finished_at DOUBLE
);
CREATE INDEX IF NOT EXISTS vm_recovery ON vm_list (recovery_id, status);
CREATE INDEX IF NOT EXISTS vm_uuid ON vm_list (uuid, id);
CREATE INDEX IF NOT EXISTS vm_target ON vm_list (action_target, status);
CREATE INDEX IF NOT EXISTS vm_status ON vm_list (status, action);

-- Spare hosts. A row leaves the list by deleted = 1; used_by says which recovery took it.
CREATE TABLE IF NOT EXISTS reserve_list (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INTEGER NOT NULL DEFAULT 0,
    cluster_port VARCHAR(255),
    hostname VARCHAR(255),
    used_by BIGINT,
    listed_key VARCHAR(255) UNIQUE          -- <hostname> while listed, NULL once it left: a host is a spare once
);
CREATE INDEX IF NOT EXISTS reserve_cluster ON reserve_list (cluster_port, deleted, id);

-- One row per failure being repaired.
CREATE TABLE IF NOT EXISTS recovery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind VARCHAR(16) NOT NULL,              -- host, instance, process, return
    hostname VARCHAR(255) NOT NULL,
    uuid VARCHAR(255),
    process VARCHAR(255),
    cluster_port VARCHAR(255) NOT NULL,
    status VARCHAR(16) NOT NULL,            -- new, running, held, finished, failed, ignored, cancelled
    step VARCHAR(32) NOT NULL,
    hold VARCHAR(32),                       -- why it is held, as a word: many, callback, name, observers, proof, alive, changed, ...
    reason VARCHAR(1000) NOT NULL DEFAULT '',
    active_key VARCHAR(600) UNIQUE,         -- host:<name>, instance:<uuid>, process:<host>:<name>; NULL once final
    target VARCHAR(255),                    -- the reserved host
    data MEDIUMTEXT NOT NULL,               -- JSON: what the steps remember
    cancel_by VARCHAR(255),                 -- the operator who cancelled
    released TINYINT NOT NULL DEFAULT 0,    -- 1: an operator lifted the hold for many failures or for an unsigned callback
    epoch BIGINT NOT NULL DEFAULT 0,        -- grows with every claim and every outside change: a stale worker's writes match nothing
    beat BIGINT NOT NULL DEFAULT 0,         -- grows with every guarded write
    wakes BIGINT NOT NULL DEFAULT 0,        -- grows with every report that joins
    owner VARCHAR(255),
    lease_until DOUBLE NOT NULL DEFAULT 0,  -- by the database's clock
    due_at DOUBLE,                          -- when to look at it next, by the database's clock; NULL once final
    tries INTEGER NOT NULL DEFAULT 0,       -- failed visits in a row
    created_at DOUBLE NOT NULL,
    step_at DOUBLE NOT NULL,                -- when the step was entered
    updated_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    told_at DOUBLE                          -- when [notify] command last ran for it
);
CREATE INDEX IF NOT EXISTS recovery_due ON recovery (due_at);
CREATE INDEX IF NOT EXISTS recovery_owner ON recovery (owner, due_at);
CREATE INDEX IF NOT EXISTS recovery_host ON recovery (hostname, kind, created_at);
CREATE INDEX IF NOT EXISTS recovery_cluster ON recovery (cluster_port, kind, created_at);
CREATE INDEX IF NOT EXISTS recovery_uuid ON recovery (uuid, created_at);
CREATE INDEX IF NOT EXISTS recovery_finished ON recovery (finished_at);

-- The journal: a row before each effect on the outside (kind intent) and after it (kind answer), one per transition, one per decision.
CREATE TABLE IF NOT EXISTS recovery_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    recovery_id BIGINT NOT NULL,
    uuid VARCHAR(255),
    at DOUBLE NOT NULL,
    actor VARCHAR(255) NOT NULL,            -- controller, or operator:<name>
    epoch BIGINT NOT NULL,
    step VARCHAR(32) NOT NULL,
    kind VARCHAR(16) NOT NULL,              -- opened, joined, transition, intent, answer, decision, operator
    what VARCHAR(255) NOT NULL,
    reason VARCHAR(2000) NOT NULL DEFAULT '',
    request_id VARCHAR(255)
);
CREATE INDEX IF NOT EXISTS event_recovery ON recovery_event (recovery_id, id);

-- What is known of a host being off, or alive.
CREATE TABLE IF NOT EXISTS host_evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hostname VARCHAR(255) NOT NULL,
    cluster_port VARCHAR(255) NOT NULL,
    kind VARCHAR(16) NOT NULL,              -- proofs: power_off, fenced, attested; signs of life: power_on, up, last_alive, probe, nova; unknown
    at DOUBLE NOT NULL,
    received_at DOUBLE NOT NULL,
    observer VARCHAR(255),
    detail VARCHAR(1000) NOT NULL DEFAULT '',
    trusted TINYINT NOT NULL DEFAULT 1,
    report_id BIGINT,                       -- notification_list.id it came with
    guid VARCHAR(255) NOT NULL DEFAULT ''   -- of the BMC that was read, as it told; compared with known_host.bmc_guid when judged
);
CREATE INDEX IF NOT EXISTS evidence_host ON host_evidence (hostname, kind, at);
CREATE INDEX IF NOT EXISTS evidence_newest ON host_evidence (hostname, trusted, kind, guid, at);
CREATE INDEX IF NOT EXISTS evidence_report ON host_evidence (report_id);

-- Hosts seen in reports, with what they last told of themselves.
CREATE TABLE IF NOT EXISTS known_host (
    hostname VARCHAR(255) NOT NULL PRIMARY KEY,
    cluster_port VARCHAR(255) NOT NULL,
    first_seen_at DOUBLE NOT NULL,
    boot_id VARCHAR(255),
    boot_seen_at DOUBLE,                    -- when it first told of this boot
    pacemaker_name VARCHAR(255),            -- what pacemaker calls it
    bmc_guid VARCHAR(255),                  -- of its own BMC
    declared_at DOUBLE,                     -- when it told these two; cluster_port is its own word from then on
    declared_boot VARCHAR(255)              -- and in which boot
);
CREATE INDEX IF NOT EXISTS known_cluster ON known_host (cluster_port);

-- Which recoveries want nova-compute of a host disabled; the last one to clear it enables.
CREATE TABLE IF NOT EXISTS host_disable (
    hostname VARCHAR(255) NOT NULL,
    recovery_id BIGINT NOT NULL,
    wanted_at DOUBLE NOT NULL,
    was_enabled TINYINT NOT NULL,           -- as read before our first change
    seen_at DOUBLE,                         -- when Nova first showed it disabled for us
    reason VARCHAR(255) NOT NULL,           -- the disabled_reason we write
    PRIMARY KEY (hostname, recovery_id)
);

-- Failover segments: sets of hosts that back each other up. cluster_port is the key that reports and spares name; '*' speaks for
-- all. Only those with a uuid are listed by the API of OpenStack; the others hold a setting of a cluster of 2015.
CREATE TABLE IF NOT EXISTS failover_segment (
    cluster_port VARCHAR(255) NOT NULL PRIMARY KEY,
    recovery_method VARCHAR(32),            -- NULL: as configured
    paused_at DOUBLE,
    paused_until DOUBLE,                    -- NULL while paused_at is set: until resumed
    paused_by VARCHAR(255),
    number BIGINT,                          -- the id of the API
    uuid VARCHAR(36),
    name VARCHAR(255),
    service_type VARCHAR(255),
    description VARCHAR(1000),
    enabled TINYINT NOT NULL DEFAULT 1,     -- 0: reports about its hosts are ignored
    created_at DOUBLE,
    updated_at DOUBLE,
    beat BIGINT NOT NULL DEFAULT 0          -- grows with each change of it or of its hosts, so that two at once conflict
);
CREATE UNIQUE INDEX IF NOT EXISTS segment_number ON failover_segment (number);
CREATE UNIQUE INDEX IF NOT EXISTS segment_uuid ON failover_segment (uuid);
CREATE UNIQUE INDEX IF NOT EXISTS segment_name ON failover_segment (name);

-- Hosts registered in a segment: they belong to it whatever cluster_port a report names.
CREATE TABLE IF NOT EXISTS segment_host (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid VARCHAR(36) NOT NULL,
    cluster_port VARCHAR(255) NOT NULL,     -- the key of its segment
    hostname VARCHAR(255) NOT NULL,
    type VARCHAR(255) NOT NULL,
    control_attributes VARCHAR(1000) NOT NULL,
    on_maintenance TINYINT NOT NULL DEFAULT 0, -- 1: an operator said so; a host that is disabled for a recovery is, too
    cleared_at DOUBLE NOT NULL DEFAULT 0,   -- when an operator said that it is not: what was disabled before counts no more
    created_at DOUBLE NOT NULL,
    updated_at DOUBLE
);
CREATE UNIQUE INDEX IF NOT EXISTS segment_host_uuid ON segment_host (uuid);
CREATE UNIQUE INDEX IF NOT EXISTS segment_host_name ON segment_host (hostname);
CREATE INDEX IF NOT EXISTS segment_host_of ON segment_host (cluster_port, id);

CREATE TABLE IF NOT EXISTS controller (
    name VARCHAR(255) NOT NULL PRIMARY KEY,
    version VARCHAR(32) NOT NULL,
    pid INTEGER NOT NULL,
    started_at DOUBLE NOT NULL,
    beat_at DOUBLE NOT NULL
);

INSERT INTO schema_version (version, applied_at)
SELECT 1, NOW_S() WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 1);
INSERT INTO schema_version (version, applied_at)
SELECT 2, NOW_S() WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 2);
INSERT INTO schema_version (version, applied_at)
SELECT 3, NOW_S() WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 3);
