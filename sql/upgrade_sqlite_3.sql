-- SQLite tables of version 2 become those of version 3: segments and hosts as the API of OpenStack knows them.
-- The controller runs it, in one transaction with schema_sqlite.sql. create_vmha_database.sql does the same on MariaDB.

ALTER TABLE failover_segment ADD COLUMN number BIGINT;
ALTER TABLE failover_segment ADD COLUMN uuid VARCHAR(36);
ALTER TABLE failover_segment ADD COLUMN name VARCHAR(255);
ALTER TABLE failover_segment ADD COLUMN service_type VARCHAR(255);
ALTER TABLE failover_segment ADD COLUMN description VARCHAR(1000);
ALTER TABLE failover_segment ADD COLUMN enabled TINYINT NOT NULL DEFAULT 1;
ALTER TABLE failover_segment ADD COLUMN created_at DOUBLE;
ALTER TABLE failover_segment ADD COLUMN updated_at DOUBLE;
ALTER TABLE failover_segment ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
ALTER TABLE notification_list ADD COLUMN generated_at DOUBLE;
UPDATE notification_list SET generated_at = received_at WHERE received_at IS NOT NULL;
