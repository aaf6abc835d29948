-- The tables of vm_ha for MariaDB 10.5 and later. Written to what MySQL 8 knows, too, but not tested on it.
--
--     mysql -u root -p < create_vmha_database.sql
--
-- Makes the database and its tables, or upgrades those of 2015 or of an earlier release where they are; running it again is
-- harmless. Stop the controllers first, and take a backup. Every statement can be repeated, so a run that was interrupted is finished by
-- running the script again. Needs the rights to create and alter; the controller itself needs SELECT, INSERT, UPDATE
-- and DELETE on vm_ha.
--
-- What the columns mean is written in schema_sqlite.sql, which makes the same tables; a test compares the two. Text is
-- utf8mb4 and compared byte by byte, as on SQLite: compute1 and Compute1 are two hosts.
--
-- What is to be done only once is chosen with information_schema and PREPARE, since MySQL has no ADD COLUMN IF NOT
-- EXISTS, and a stored procedure would need rights of its own and stay behind after an interrupted run.

SET NAMES utf8mb4;
-- Strict, so that a value that doesn't fit stops the script and is not cut off; but dates of zero may stay.
SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET SESSION time_zone = '+00:00';

CREATE DATABASE IF NOT EXISTS vm_ha DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE vm_ha;

-- The tables. Those that are there already stay as they are here, and are upgraded below.

CREATE TABLE IF NOT EXISTS schema_version (
    version INT NOT NULL,
    applied_at DOUBLE NOT NULL,
    PRIMARY KEY (version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS notification_list (
    id BIGINT NOT NULL AUTO_INCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT NOT NULL DEFAULT 0,
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
    progress INT,
    recover_by INT,
    iscsi_ip VARCHAR(255),
    controle_ip VARCHAR(255),
    recover_to VARCHAR(255),
    report_key VARCHAR(255),
    received_at DOUBLE,
    self_report TINYINT NOT NULL DEFAULT 0,
    observer VARCHAR(255),
    key_id VARCHAR(255),
    trusted TINYINT NOT NULL DEFAULT 1,
    outcome VARCHAR(32),
    reason VARCHAR(1000),
    recovery_id BIGINT,
    generated_at DOUBLE,
    body MEDIUMTEXT,
    PRIMARY KEY (id),
    UNIQUE KEY report_key (report_key),
    KEY notification_recovery (recovery_id),
    KEY notification_alive (notification_hostname, self_report, trusted, received_at),
    KEY notification_created (create_at),
    KEY notification_progress (progress, id),
    KEY notification_generated (generated_at, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vm_list (
    id BIGINT NOT NULL AUTO_INCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT NOT NULL DEFAULT 0,
    uuid VARCHAR(255),
    progress INT,
    retry_cnt INT NOT NULL DEFAULT 0,
    notification_id VARCHAR(255),
    recover_to VARCHAR(255),
    recover_by INT,
    recovery_id BIGINT,
    active_key VARCHAR(600),
    name VARCHAR(255),
    status VARCHAR(16),
    reason VARCHAR(1000),
    priority INT NOT NULL DEFAULT 0,
    was VARCHAR(1000),
    action VARCHAR(32),
    action_at DOUBLE,
    action_answer VARCHAR(16),
    action_target VARCHAR(255),
    migration_seen BIGINT NOT NULL DEFAULT 0,
    request_id VARCHAR(255),
    finished_at DOUBLE,
    PRIMARY KEY (id),
    UNIQUE KEY active_key (active_key),
    KEY vm_recovery (recovery_id, status),
    KEY vm_uuid (uuid, id),
    KEY vm_target (action_target, status),
    KEY vm_status (status, action)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS reserve_list (
    id BIGINT NOT NULL AUTO_INCREMENT,
    create_at DATETIME,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT NOT NULL DEFAULT 0,
    cluster_port VARCHAR(255),
    hostname VARCHAR(255),
    used_by BIGINT,
    listed_key VARCHAR(255),
    PRIMARY KEY (id),
    UNIQUE KEY listed_key (listed_key),
    KEY reserve_cluster (cluster_port, deleted, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recovery (
    id BIGINT NOT NULL AUTO_INCREMENT,
    kind VARCHAR(16) NOT NULL,
    hostname VARCHAR(255) NOT NULL,
    uuid VARCHAR(255),
    process VARCHAR(255),
    cluster_port VARCHAR(255) NOT NULL,
    status VARCHAR(16) NOT NULL,
    step VARCHAR(32) NOT NULL,
    hold VARCHAR(32),
    reason VARCHAR(1000) NOT NULL DEFAULT '',
    active_key VARCHAR(600),
    target VARCHAR(255),
    data MEDIUMTEXT NOT NULL,
    cancel_by VARCHAR(255),
    released TINYINT NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL DEFAULT 0,
    beat BIGINT NOT NULL DEFAULT 0,
    wakes BIGINT NOT NULL DEFAULT 0,
    owner VARCHAR(255),
    lease_until DOUBLE NOT NULL DEFAULT 0,
    due_at DOUBLE,
    tries INT NOT NULL DEFAULT 0,
    created_at DOUBLE NOT NULL,
    step_at DOUBLE NOT NULL,
    updated_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    told_at DOUBLE,
    PRIMARY KEY (id),
    UNIQUE KEY active_key (active_key),
    KEY recovery_due (due_at),
    KEY recovery_owner (owner, due_at),
    KEY recovery_host (hostname, kind, created_at),
    KEY recovery_cluster (cluster_port, kind, created_at),
    KEY recovery_uuid (uuid, created_at),
    KEY recovery_finished (finished_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recovery_event (
    id BIGINT NOT NULL AUTO_INCREMENT,
    recovery_id BIGINT NOT NULL,
    uuid VARCHAR(255),
    at DOUBLE NOT NULL,
    actor VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    step VARCHAR(32) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    what VARCHAR(255) NOT NULL,
    reason VARCHAR(2000) NOT NULL DEFAULT '',
    request_id VARCHAR(255),
    PRIMARY KEY (id),
    KEY event_recovery (recovery_id, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS host_evidence (
    id BIGINT NOT NULL AUTO_INCREMENT,
    hostname VARCHAR(255) NOT NULL,
    cluster_port VARCHAR(255) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    at DOUBLE NOT NULL,
    received_at DOUBLE NOT NULL,
    observer VARCHAR(255),
    detail VARCHAR(1000) NOT NULL DEFAULT '',
    trusted TINYINT NOT NULL DEFAULT 1,
    report_id BIGINT,
    guid VARCHAR(255) NOT NULL DEFAULT '',
    PRIMARY KEY (id),
    KEY evidence_host (hostname, kind, at),
    KEY evidence_newest (hostname, trusted, kind, guid, at),
    KEY evidence_report (report_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS known_host (
    hostname VARCHAR(255) NOT NULL,
    cluster_port VARCHAR(255) NOT NULL,
    first_seen_at DOUBLE NOT NULL,
    boot_id VARCHAR(255),
    boot_seen_at DOUBLE,
    pacemaker_name VARCHAR(255),
    bmc_guid VARCHAR(255),
    declared_at DOUBLE,
    declared_boot VARCHAR(255),
    PRIMARY KEY (hostname),
    KEY known_cluster (cluster_port)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS host_disable (
    hostname VARCHAR(255) NOT NULL,
    recovery_id BIGINT NOT NULL,
    wanted_at DOUBLE NOT NULL,
    was_enabled TINYINT NOT NULL,
    seen_at DOUBLE,
    reason VARCHAR(255) NOT NULL,
    PRIMARY KEY (hostname, recovery_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS failover_segment (
    cluster_port VARCHAR(255) NOT NULL,
    recovery_method VARCHAR(32),
    paused_at DOUBLE,
    paused_until DOUBLE,
    paused_by VARCHAR(255),
    number BIGINT,
    uuid VARCHAR(36),
    name VARCHAR(255),
    service_type VARCHAR(255),
    description VARCHAR(1000),
    enabled TINYINT NOT NULL DEFAULT 1,
    created_at DOUBLE,
    updated_at DOUBLE,
    beat BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (cluster_port),
    UNIQUE KEY segment_number (number),
    UNIQUE KEY segment_uuid (uuid),
    UNIQUE KEY segment_name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS segment_host (
    id BIGINT NOT NULL AUTO_INCREMENT,
    uuid VARCHAR(36) NOT NULL,
    cluster_port VARCHAR(255) NOT NULL,
    hostname VARCHAR(255) NOT NULL,
    type VARCHAR(255) NOT NULL,
    control_attributes VARCHAR(1000) NOT NULL,
    on_maintenance TINYINT NOT NULL DEFAULT 0,
    cleared_at DOUBLE NOT NULL DEFAULT 0,
    created_at DOUBLE NOT NULL,
    updated_at DOUBLE,
    PRIMARY KEY (id),
    UNIQUE KEY segment_host_uuid (uuid),
    UNIQUE KEY segment_host_name (hostname),
    KEY segment_host_of (cluster_port, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS controller (
    name VARCHAR(255) NOT NULL,
    version VARCHAR(32) NOT NULL,
    pid INT NOT NULL,
    started_at DOUBLE NOT NULL,
    beat_at DOUBLE NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- From 2015 on: engine and collation, then columns and keys, then what belongs into the new columns.

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'notification_list' AND COLLATION_NAME <> 'utf8mb4_bin'
    ) OR EXISTS (
        SELECT 1 FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'notification_list'
          AND (TABLE_COLLATION <> 'utf8mb4_bin' OR ENGINE <> 'InnoDB' OR ROW_FORMAT <> 'Dynamic')
    ),
    'ALTER TABLE notification_list ENGINE = InnoDB, ROW_FORMAT = DYNAMIC,
        CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    'DO 0'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'vm_list' AND COLLATION_NAME <> 'utf8mb4_bin'
    ) OR EXISTS (
        SELECT 1 FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'vm_list'
          AND (TABLE_COLLATION <> 'utf8mb4_bin' OR ENGINE <> 'InnoDB' OR ROW_FORMAT <> 'Dynamic')
    ),
    'ALTER TABLE vm_list ENGINE = InnoDB, ROW_FORMAT = DYNAMIC,
        CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    'DO 0'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'reserve_list' AND COLLATION_NAME <> 'utf8mb4_bin'
    ) OR EXISTS (
        SELECT 1 FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'reserve_list'
          AND (TABLE_COLLATION <> 'utf8mb4_bin' OR ENGINE <> 'InnoDB' OR ROW_FORMAT <> 'Dynamic')
    ),
    'ALTER TABLE reserve_list ENGINE = InnoDB, ROW_FORMAT = DYNAMIC,
        CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    'DO 0'
);
PREPARE todo FROM @todo;
EXECUTE todo;

UPDATE notification_list SET deleted = 0 WHERE deleted IS NULL;
UPDATE vm_list SET deleted = 0 WHERE deleted IS NULL;
UPDATE vm_list SET retry_cnt = 0 WHERE retry_cnt IS NULL;
UPDATE reserve_list SET deleted = 0 WHERE deleted IS NULL;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'notification_list' AND COLUMN_NAME = 'report_key'
    ),
    'DO 0',
    'ALTER TABLE notification_list
        MODIFY id BIGINT NOT NULL AUTO_INCREMENT,
        MODIFY create_at DATETIME,
        MODIFY update_at DATETIME,
        MODIFY delete_at DATETIME,
        MODIFY deleted INT NOT NULL DEFAULT 0,
        MODIFY notification_id VARCHAR(255),
        MODIFY notification_type VARCHAR(255),
        MODIFY notification_regionID VARCHAR(255),
        MODIFY notification_hostname VARCHAR(255),
        MODIFY notification_uuid VARCHAR(255),
        MODIFY notification_time DATETIME,
        MODIFY notification_eventID VARCHAR(255),
        MODIFY notification_eventType VARCHAR(255),
        MODIFY notification_detail VARCHAR(255),
        MODIFY notification_startTime DATETIME,
        MODIFY notification_endTime DATETIME,
        MODIFY notification_tzname VARCHAR(255),
        MODIFY notification_daylight VARCHAR(255),
        MODIFY notification_cluster_port VARCHAR(255),
        MODIFY progress INT,
        MODIFY recover_by INT,
        MODIFY iscsi_ip VARCHAR(255),
        MODIFY controle_ip VARCHAR(255),
        MODIFY recover_to VARCHAR(255),
        ADD COLUMN report_key VARCHAR(255),
        ADD COLUMN received_at DOUBLE,
        ADD COLUMN self_report TINYINT NOT NULL DEFAULT 0,
        ADD COLUMN observer VARCHAR(255),
        ADD COLUMN key_id VARCHAR(255),
        ADD COLUMN trusted TINYINT NOT NULL DEFAULT 1,
        ADD COLUMN outcome VARCHAR(32),
        ADD COLUMN reason VARCHAR(1000),
        ADD COLUMN recovery_id BIGINT,
        ADD COLUMN body MEDIUMTEXT,
        ADD UNIQUE KEY report_key (report_key),
        ADD KEY notification_recovery (recovery_id),
        ADD KEY notification_alive (notification_hostname, self_report, trusted, received_at),
        ADD KEY notification_created (create_at),
        ADD KEY notification_progress (progress, id)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'vm_list' AND COLUMN_NAME = 'recovery_id'
    ),
    'DO 0',
    'ALTER TABLE vm_list
        MODIFY id BIGINT NOT NULL AUTO_INCREMENT,
        MODIFY create_at DATETIME,
        MODIFY update_at DATETIME,
        MODIFY delete_at DATETIME,
        MODIFY deleted INT NOT NULL DEFAULT 0,
        MODIFY uuid VARCHAR(255),
        MODIFY progress INT,
        MODIFY retry_cnt INT NOT NULL DEFAULT 0,
        MODIFY notification_id VARCHAR(255),
        MODIFY recover_to VARCHAR(255),
        MODIFY recover_by INT,
        ADD COLUMN recovery_id BIGINT,
        ADD COLUMN active_key VARCHAR(600),
        ADD COLUMN name VARCHAR(255),
        ADD COLUMN status VARCHAR(16),
        ADD COLUMN reason VARCHAR(1000),
        ADD COLUMN priority INT NOT NULL DEFAULT 0,
        ADD COLUMN was VARCHAR(1000),
        ADD COLUMN action VARCHAR(32),
        ADD COLUMN action_at DOUBLE,
        ADD COLUMN action_answer VARCHAR(16),
        ADD COLUMN action_target VARCHAR(255),
        ADD COLUMN migration_seen BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN request_id VARCHAR(255),
        ADD COLUMN finished_at DOUBLE,
        ADD UNIQUE KEY active_key (active_key),
        ADD KEY vm_recovery (recovery_id, status),
        ADD KEY vm_uuid (uuid, id),
        ADD KEY vm_target (action_target, status),
        ADD KEY vm_status (status, action)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'reserve_list' AND COLUMN_NAME = 'used_by'
    ),
    'DO 0',
    'ALTER TABLE reserve_list
        MODIFY id BIGINT NOT NULL AUTO_INCREMENT,
        MODIFY create_at DATETIME,
        MODIFY update_at DATETIME,
        MODIFY delete_at DATETIME,
        MODIFY deleted INT NOT NULL DEFAULT 0,
        MODIFY cluster_port VARCHAR(255),
        MODIFY hostname VARCHAR(255),
        ADD COLUMN used_by BIGINT,
        ADD COLUMN listed_key VARCHAR(255),
        ADD UNIQUE KEY listed_key (listed_key),
        ADD KEY reserve_cluster (cluster_port, deleted, id)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

-- From version 1 on: hosts tell their name in pacemaker and their BMC.

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'host_evidence' AND COLUMN_NAME = 'guid'
    ),
    'DO 0',
    'ALTER TABLE host_evidence
        ADD COLUMN guid VARCHAR(255) NOT NULL DEFAULT '''',
        ADD KEY evidence_newest (hostname, trusted, kind, guid, at)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'known_host' AND COLUMN_NAME = 'bmc_guid'
    ),
    'DO 0',
    'ALTER TABLE known_host
        ADD COLUMN pacemaker_name VARCHAR(255),
        ADD COLUMN bmc_guid VARCHAR(255),
        ADD COLUMN declared_at DOUBLE,
        ADD COLUMN declared_boot VARCHAR(255)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

-- From version 2 on: segments and hosts as the API of OpenStack knows them.

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'failover_segment' AND COLUMN_NAME = 'uuid'
    ),
    'DO 0',
    'ALTER TABLE failover_segment
        ADD COLUMN number BIGINT,
        ADD COLUMN uuid VARCHAR(36),
        ADD COLUMN name VARCHAR(255),
        ADD COLUMN service_type VARCHAR(255),
        ADD COLUMN description VARCHAR(1000),
        ADD COLUMN enabled TINYINT NOT NULL DEFAULT 1,
        ADD COLUMN created_at DOUBLE,
        ADD COLUMN updated_at DOUBLE,
        ADD COLUMN beat BIGINT NOT NULL DEFAULT 0,
        ADD UNIQUE KEY segment_number (number),
        ADD UNIQUE KEY segment_uuid (uuid),
        ADD UNIQUE KEY segment_name (name)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @todo = IF(
    EXISTS (
        SELECT 1 FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'notification_list' AND COLUMN_NAME = 'generated_at'
    ),
    'DO 0',
    'ALTER TABLE notification_list
        ADD COLUMN generated_at DOUBLE,
        ADD KEY notification_generated (generated_at, id)'
);
PREPARE todo FROM @todo;
EXECUTE todo;

SET @version = (SELECT COALESCE(MAX(version), 0) FROM schema_version);

-- The first report of each id gets the key; in 2015 an id could be there several times.
SET @todo = IF(@version >= 1, 'DO 0',
    'UPDATE notification_list
     JOIN (
         SELECT MIN(id) AS first_id FROM notification_list
         GROUP BY notification_id HAVING MAX(report_key) IS NULL
     ) AS first_report ON first_report.first_id = notification_list.id
     SET notification_list.report_key = notification_list.notification_id'
);
PREPARE todo FROM @todo;
EXECUTE todo;

-- Work that 2015 left open is closed, not resumed: nobody knows what Nova was asked for it, and asking a second time
-- can wreck an instance. Look at these instances by hand.
SET @todo = IF(@version >= 1, 'DO 0',
    'UPDATE notification_list
     SET progress = 4, outcome = ''ignored'', update_at = UTC_TIMESTAMP(),
         reason = ''from before the upgrade: was still open, is not resumed''
     WHERE progress IN (0, 1) AND received_at IS NULL'
);
PREPARE todo FROM @todo;
EXECUTE todo;
SET @todo = IF(@version >= 1, 'DO 0',
    'UPDATE vm_list
     SET progress = 4, update_at = UTC_TIMESTAMP(),
         reason = ''from before the upgrade: was still open, is not resumed''
     WHERE progress IN (0, 1) AND recovery_id IS NULL'
);
PREPARE todo FROM @todo;
EXECUTE todo;
SET @todo = IF(@version >= 1, 'DO 0',
    'UPDATE vm_list
     SET status = CASE progress WHEN 2 THEN ''finished'' WHEN 3 THEN ''failed'' ELSE ''skipped'' END
     WHERE status IS NULL'
);
PREPARE todo FROM @todo;
EXECUTE todo;

-- A host is a spare once: of several entries the oldest stays.
SET @todo = IF(@version >= 1, 'DO 0',
    'UPDATE reserve_list
     JOIN (
         SELECT hostname, MIN(id) AS first_id FROM reserve_list WHERE deleted = 0 GROUP BY hostname
     ) AS first_entry ON first_entry.hostname = reserve_list.hostname
     SET reserve_list.deleted = 1, reserve_list.delete_at = UTC_TIMESTAMP(), reserve_list.update_at = UTC_TIMESTAMP()
     WHERE reserve_list.deleted = 0 AND reserve_list.id > first_entry.first_id'
);
PREPARE todo FROM @todo;
EXECUTE todo;
SET @todo = IF(@version >= 1, 'DO 0', 'UPDATE reserve_list SET listed_key = hostname WHERE deleted = 0');
PREPARE todo FROM @todo;
EXECUTE todo;
SET @todo = IF(@version >= 3, 'DO 0', 'UPDATE notification_list SET generated_at = received_at WHERE received_at IS NOT NULL');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;

-- Last: the controller starts only when it finds this.
INSERT INTO schema_version (version, applied_at)
SELECT 1, UNIX_TIMESTAMP(NOW(6)) FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 1);
INSERT INTO schema_version (version, applied_at)
SELECT 2, UNIX_TIMESTAMP(NOW(6)) FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 2);
INSERT INTO schema_version (version, applied_at)
SELECT 3, UNIX_TIMESTAMP(NOW(6)) FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM schema_version WHERE version = 3);
