-- A database as 2015 left it: narrow columns, no unique keys, latin1 and utf8, rows with duplicates and open work.

CREATE DATABASE vm_ha DEFAULT CHARACTER SET utf8;
USE vm_ha;
SET NAMES utf8;
SET SESSION sql_mode = '';

CREATE TABLE notification_list (
    create_at DATETIME NOT NULL,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT DEFAULT 0,
    id INT(11) NOT NULL AUTO_INCREMENT,
    notification_id VARCHAR(64),
    notification_type VARCHAR(16) NOT NULL,
    notification_regionID VARCHAR(64) NOT NULL,
    notification_hostname VARCHAR(64),
    notification_uuid VARCHAR(64) NOT NULL,
    notification_time DATETIME NOT NULL,
    notification_eventID VARCHAR(1) NOT NULL,
    notification_eventType VARCHAR(1) NOT NULL,
    notification_detail VARCHAR(1) NOT NULL,
    notification_startTime DATETIME,
    notification_endTime DATETIME,
    notification_tzname VARCHAR(16),
    notification_daylight VARCHAR(1),
    notification_cluster_port VARCHAR(64),
    progress INT NOT NULL,
    recover_by INT NOT NULL,
    iscsi_ip VARCHAR(15),
    controle_ip VARCHAR(15),
    recover_to VARCHAR(64),
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = latin1;

CREATE TABLE vm_list (
    create_at DATETIME NOT NULL,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT DEFAULT NULL,
    id INT(11) NOT NULL AUTO_INCREMENT,
    uuid VARCHAR(36) NOT NULL,
    progress INT NOT NULL,
    retry_cnt INT,
    notification_id VARCHAR(64),
    recover_to VARCHAR(64),
    recover_by INT,
    PRIMARY KEY (id)
) ENGINE = MyISAM DEFAULT CHARSET = utf8;

CREATE TABLE reserve_list (
    id INT(11) NOT NULL AUTO_INCREMENT,
    create_at DATETIME NOT NULL,
    update_at DATETIME,
    delete_at DATETIME,
    deleted INT DEFAULT 0,
    cluster_port VARCHAR(64) NOT NULL,
    hostname VARCHAR(64) NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = COMPACT DEFAULT CHARSET = utf8;

-- 1 and 3 repeat an id, 4 differs from them in case alone; 2 has no id; 5 and 6 are open; 6 has a date of zero.
INSERT INTO notification_list
    (id, create_at, update_at, delete_at, deleted, notification_id, notification_type, notification_regionID,
     notification_hostname, notification_uuid, notification_time, notification_eventID, notification_eventType,
     notification_detail, notification_startTime, notification_endTime, notification_tzname, notification_daylight,
     notification_cluster_port, progress, recover_by, iscsi_ip, controle_ip, recover_to)
VALUES
    (1, '2015-06-01 10:00:00', '2015-06-01 10:05:00', NULL, 0, 'a-1', 'rscGroup', 'RegionOne', 'compute1', '',
     '2015-06-01 10:00:00', '1', '2', '2', '2015-06-01 10:00:00', NULL, 'JST', '0', '226.94.1.1:5405', 2, 0,
     '10.0.0.1', '10.0.1.1', 'compute9'),
    (2, '2015-06-01 10:00:01', NULL, NULL, NULL, NULL, 'rscGroup', 'RegionOne', 'compute1', '',
     '2015-06-01 10:00:00', '1', '2', '2', NULL, NULL, 'JST', '0', '226.94.1.1:5405', 4, 0, NULL, NULL, NULL),
    (3, '2015-06-01 10:00:02', NULL, NULL, 0, 'a-1', 'rscGroup', 'RegionOne', 'compute1', '',
     '2015-06-01 10:00:00', '1', '2', '2', NULL, NULL, 'JST', '0', '226.94.1.1:5405', 4, 0, NULL, NULL, NULL),
    (4, '2015-06-01 10:00:03', NULL, '2015-07-01 00:00:00', 4, 'A-1', 'VM', 'Région', 'compute2',
     '5d6a7c2e-0000-4000-8000-000000000001', '2015-06-01 10:00:00', '0', '5', '5', NULL, NULL, 'JST', '0', NULL,
     3, 1, NULL, NULL, NULL),
    (5, '2015-06-02 10:00:00', NULL, NULL, 0, 'b-1', 'rscGroup', 'RegionOne', 'compute3', '',
     '2015-06-02 10:00:00', '1', '2', '2', NULL, NULL, 'JST', '0', '226.94.1.1:5405', 1, 0, NULL, NULL, 'compute9'),
    (6, '2015-06-02 10:00:01', NULL, NULL, 0, 'b-2', 'nodeStatus', 'RegionOne', 'compute3', '',
     '0000-00-00 00:00:00', '2', '1', '3', NULL, NULL, 'JST', '0', '226.94.1.1:5405', 0, 2, NULL, NULL, NULL);

INSERT INTO vm_list (id, create_at, deleted, uuid, progress, retry_cnt, notification_id, recover_to, recover_by) VALUES
    (1, '2015-06-01 10:00:05', NULL, '5d6a7c2e-0000-4000-8000-00000000000a', 2, 0, 'a-1', 'compute9', 0),
    (2, '2015-06-01 10:00:05', NULL, '5d6a7c2e-0000-4000-8000-00000000000b', 3, 3, 'a-1', 'compute9', 0),
    (3, '2015-06-02 10:00:05', 0, '5d6a7c2e-0000-4000-8000-00000000000b', 1, NULL, 'b-1', 'compute9', 0);

-- compute8 is listed twice, once for each of two clusters; compute7 left the list.
INSERT INTO reserve_list (id, create_at, delete_at, deleted, cluster_port, hostname) VALUES
    (1, '2015-05-01 00:00:00', '2015-05-02 00:00:00', 1, '226.94.1.1:5405', 'compute7'),
    (2, '2015-05-03 00:00:00', NULL, 0, '226.94.1.1:5405', 'compute8'),
    (3, '2015-05-04 00:00:00', NULL, 0, '226.94.1.2:5405', 'compute8'),
    (4, '2015-05-05 00:00:00', NULL, NULL, '226.94.1.1:5405', 'compute9');
