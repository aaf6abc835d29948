-- SQLite tables of version 1 become those of version 2: hosts tell their name in pacemaker and their BMC.
-- The controller runs it, in one transaction with schema_sqlite.sql. create_vmha_database.sql does the same on MariaDB.

ALTER TABLE host_evidence ADD COLUMN guid VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE known_host ADD COLUMN pacemaker_name VARCHAR(255);
ALTER TABLE known_host ADD COLUMN bmc_guid VARCHAR(255);
ALTER TABLE known_host ADD COLUMN declared_at DOUBLE;
ALTER TABLE known_host ADD COLUMN declared_boot VARCHAR(255);
