-- Every statement of the controller. Parameters are :name; NOW_S() is the database's clock in Unix seconds.
-- A statement that differs between the databases stands once for each: "-- name (mysql) --", "-- name (sqlite) --".

-- recovery_due --
-- Recoveries that may be claimed now, the longest due first; paused segments are left alone.
-- Two questions about pauses that don't depend on the row: thousands may be due while everything is paused.
SELECT id FROM recovery
WHERE due_at <= NOW_S() AND (owner IS NULL OR lease_until < NOW_S())
  AND NOT EXISTS (SELECT 1 FROM failover_segment
                  WHERE cluster_port = '*' AND paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > NOW_S()))
  AND cluster_port NOT IN (SELECT cluster_port FROM failover_segment
                           WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > NOW_S()))
ORDER BY due_at LIMIT :many

-- recovery_claim --
-- Take a recovery if nobody holds it; 1 row or none.
UPDATE recovery SET owner = :owner, epoch = epoch + 1, beat = beat + 1, lease_until = NOW_S() + :lease_s
WHERE id = :id AND due_at <= NOW_S() AND (owner IS NULL OR lease_until < NOW_S())
  AND NOT EXISTS (SELECT 1 FROM failover_segment s WHERE s.cluster_port IN ('*', recovery.cluster_port)
                  AND s.paused_at IS NOT NULL AND (s.paused_until IS NULL OR s.paused_until > NOW_S()))

-- recovery_guard --
-- The guard of every write of a worker: changes the row, so that a stale worker and its successor conflict.
UPDATE recovery SET beat = beat + 1, lease_until = NOW_S() + :lease_s
WHERE id = :id AND epoch = :epoch AND owner = :owner

-- recovery_remember --
-- What a recovery must not forget; always behind the guard.
UPDATE recovery SET data = :data WHERE id = :id

-- recovery_save --
-- Store what a step returned. A report that joined meanwhile keeps the recovery due at once, and from becoming final.
UPDATE recovery SET told_at = CASE WHEN :hold IS NOT NULL AND (hold IS NULL OR hold <> :hold) THEN NULL ELSE told_at END,
    status = :status, step = :step, hold = :hold, reason = :reason, data = :data, target = :target,
    tries = :tries, step_at = :step_at, updated_at = :now, finished_at = :finished_at, beat = beat + 1,
    active_key = CASE WHEN :final = 1 THEN NULL ELSE active_key END,
    due_at = CASE WHEN :final = 1 THEN NULL WHEN wakes = :wakes THEN NOW_S() + :wait_s ELSE NOW_S() END,
    owner = CASE WHEN :keep = 1 THEN owner ELSE NULL END,
    lease_until = CASE WHEN :keep = 1 THEN NOW_S() + :lease_s ELSE 0 END
WHERE id = :id AND epoch = :epoch AND owner = :owner AND (:final = 0 OR wakes = :wakes)

-- recovery_by_id --
-- One recovery.
SELECT * FROM recovery WHERE id = :id

-- recovery_by_key --
-- The active recoveries of these hosts, instances or processes.
SELECT * FROM recovery WHERE active_key IN :keys

-- recovery_ids_by_key --
-- The same, as little as is needed of many.
SELECT id, active_key FROM recovery WHERE active_key IN :keys

-- recovery_add --
-- A new recovery.
INSERT INTO recovery (kind, hostname, uuid, process, cluster_port, status, step, hold, reason, active_key, data,
    due_at, created_at, step_at, updated_at)
VALUES (:kind, :hostname, :uuid, :process, :cluster_port, :status, :step, :hold, :reason, :active_key, :data,
    NOW_S() + :wait_s, :now, :now, :now)

-- recovery_open_many --
-- New recoveries for instance and process failures; due_at is the database's clock as read in the same transaction.
INSERT INTO recovery (kind, hostname, uuid, process, cluster_port, status, step, hold, reason, active_key, data, due_at,
    created_at, step_at, updated_at)
VALUES (:kind, :hostname, :uuid, :process, :cluster_port, :status, :step, :hold, :reason, :active_key, :data, :due_at,
    :now, :now, :now)

-- recovery_wake --
-- A report joined: look at once.
UPDATE recovery SET wakes = wakes + 1, beat = beat + 1, due_at = NOW_S(), updated_at = :now
WHERE id IN :ids AND due_at IS NOT NULL

-- recovery_seize --
-- Take a recovery away from whoever works on it and put it elsewhere; a stale worker's writes match nothing from here on.
UPDATE recovery SET status = :status, step = :step, hold = :hold, reason = :reason, epoch = epoch + 1, beat = beat + 1,
    wakes = wakes + 1, owner = NULL, lease_until = 0, due_at = NOW_S(), updated_at = :now, step_at = :now
WHERE id = :id AND due_at IS NOT NULL

-- recovery_end --
-- Make a recovery final from outside its worker.
UPDATE recovery SET status = :status, reason = :reason, hold = NULL, active_key = NULL, epoch = epoch + 1, beat = beat + 1,
    owner = NULL, lease_until = 0, due_at = NULL, updated_at = :now, finished_at = :now
WHERE id = :id AND due_at IS NOT NULL

-- recovery_reopen --
-- An operator tries a failed or cancelled recovery again.
UPDATE recovery SET status = 'new', step = :step, hold = NULL, reason = :reason, active_key = :active_key, cancel_by = NULL,
    epoch = epoch + 1, beat = beat + 1, owner = NULL, lease_until = 0, due_at = NOW_S(), tries = 0, finished_at = NULL,
    told_at = NULL, data = :data, updated_at = :now, step_at = :now
WHERE id = :id AND due_at IS NULL

-- recovery_cancel --
-- An operator's wish to stop; the worker follows what is in flight.
UPDATE recovery SET cancel_by = :by, wakes = wakes + 1, beat = beat + 1, due_at = NOW_S(), updated_at = :now
WHERE id = :id AND due_at IS NOT NULL

-- recovery_release --
-- An operator lifts the hold for many failures or for an unsigned callback.
UPDATE recovery SET released = 1, wakes = wakes + 1, beat = beat + 1, due_at = NOW_S(), updated_at = :now
WHERE id = :id AND due_at IS NOT NULL

-- recovery_takeover --
-- A controller that starts again: its own claims are free at once.
UPDATE recovery SET lease_until = 0, beat = beat + 1 WHERE owner = :owner AND due_at IS NOT NULL

-- recovery_due_now --
-- The database's clock was set back: what nobody works on is looked at now.
UPDATE recovery SET due_at = NOW_S(), beat = beat + 1 WHERE due_at > NOW_S() AND owner IS NULL

-- recovery_next_due --
-- When the next one gets due, in seconds from now. What is due already is claimed, or waits for a thread or for the end of a pause.
SELECT MIN(due_at) - NOW_S() AS wait_s FROM recovery WHERE owner IS NULL AND due_at > NOW_S()

-- recovery_window --
-- Hosts of a segment with a recovery since some time.
SELECT * FROM recovery WHERE cluster_port = :cluster_port AND kind = 'host' AND created_at >= :since

-- recovery_window_of --
-- The same of these hosts, whichever segment they were in then.
SELECT * FROM recovery WHERE hostname IN :hostnames AND kind = 'host' AND created_at >= :since

-- recovery_last --
-- The newest host recovery of a host.
SELECT * FROM recovery WHERE hostname = :hostname AND kind = 'host' ORDER BY id DESC LIMIT 1

-- recovery_recent_instance --
-- How often an instance was started again lately.
SELECT COUNT(*) AS n FROM recovery WHERE uuid = :uuid AND kind = 'instance' AND status = 'finished' AND created_at >= :since

-- recovery_recent_undo --
-- How often nova-compute of a host was enabled again for a process lately.
SELECT COUNT(*) AS n FROM recovery
WHERE hostname = :hostname AND kind = 'process' AND step = 'enable' AND status = 'finished' AND created_at >= :since

-- recovery_list --
-- For the operator: the open ones and the newest ended ones.
SELECT * FROM recovery WHERE due_at > 0 OR id > (SELECT COALESCE(MAX(id), 0) FROM recovery) - :recent ORDER BY id

-- recovery_open --
-- All open recoveries.
SELECT * FROM recovery WHERE due_at > 0 ORDER BY id

-- recovery_counts --
-- For the metrics.
SELECT kind, status, COUNT(*) AS n FROM recovery GROUP BY kind, status

-- recovery_held --
-- For the metrics: how many are held, and the oldest.
SELECT COUNT(*) AS n, MIN(step_at) AS oldest FROM recovery WHERE due_at > 0 AND status = 'held'

-- recovery_to_tell --
-- Recoveries whose hold or end nobody was told of, or not lately.
SELECT * FROM recovery WHERE (status = 'held' AND due_at > 0 AND (told_at IS NULL OR told_at < :again_before))
   OR (finished_at >= :since AND status IN ('failed', 'finished') AND (told_at IS NULL OR told_at < finished_at))
ORDER BY id LIMIT 20

-- recovery_told --
-- The [notify] command is about to run; 1 row for the controller that runs it.
UPDATE recovery SET told_at = :now WHERE id = :id AND (told_at IS NULL OR told_at = :told_at)

-- event_add --
-- A line of the journal.
INSERT INTO recovery_event (recovery_id, uuid, at, actor, epoch, step, kind, what, reason, request_id)
VALUES (:recovery_id, :uuid, :at, :actor, :epoch, :step, :kind, :what, :reason, :request_id)

-- event_list --
-- The story of a recovery.
SELECT * FROM recovery_event WHERE recovery_id = :recovery_id ORDER BY id

-- progress_reports --
-- The 2015 progress of the reports of a recovery.
UPDATE notification_list SET progress = :progress, update_at = :update_at, recover_to = :recover_to
WHERE recovery_id = :recovery_id

-- progress_instances --
-- The 2015 progress of the instances of an instance recovery.
UPDATE vm_list SET progress = :progress, status = :status, reason = :reason, update_at = :update_at,
    active_key = CASE WHEN :final = 1 THEN NULL ELSE active_key END,
    finished_at = CASE WHEN :final = 1 THEN :now ELSE finished_at END
WHERE recovery_id = :recovery_id AND active_key IS NOT NULL

-- instance_add --
-- Instances to recover.
INSERT INTO vm_list (create_at, update_at, deleted, uuid, progress, retry_cnt, notification_id, recover_by, recovery_id,
    active_key, name, status, reason, priority, was, finished_at)
VALUES (:create_at, :create_at, :deleted, :uuid, :progress, :deleted, :notification_id, :recover_by, :recovery_id,
    :active_key, :name, :status, :reason, :priority, :was, :finished_at)

-- instance_open_many --
-- The instances of new instance recoveries.
INSERT INTO vm_list (create_at, update_at, uuid, progress, notification_id, recover_by, recovery_id, active_key, status)
VALUES (:create_at, :create_at, :uuid, :progress, :report_id, :recover_by, :recovery_id, :active_key, :status)

-- instance_list --
-- The instances of a recovery.
SELECT * FROM vm_list WHERE recovery_id = :recovery_id ORDER BY priority, id

-- instance_active --
-- Who may act on these instances now.
SELECT v.*, r.kind AS recovery_kind FROM vm_list v JOIN recovery r ON r.id = v.recovery_id WHERE v.active_key IN :keys

-- instance_move --
-- A host recovery takes over an instance together with what is in flight for it.
UPDATE vm_list SET recovery_id = :recovery_id, recover_by = 0, name = :name, status = 'running', progress = 1, priority = :priority,
    was = :was, reason = :reason, update_at = :update_at
WHERE id = :id AND active_key IS NOT NULL

-- instance_intend --
-- What Nova is about to be asked.
UPDATE vm_list SET status = 'running', progress = 1, action = :action, action_at = NOW_S(), action_answer = NULL,
    action_target = :action_target, migration_seen = :migration_seen, request_id = NULL, update_at = :update_at
WHERE id = :id AND active_key IS NOT NULL

-- instance_answer --
-- What Nova answered.
UPDATE vm_list SET action_answer = :answer, request_id = :request_id WHERE id = :id

-- instance_again --
-- A try ended without success.
UPDATE vm_list SET retry_cnt = retry_cnt + 1, action = NULL, action_at = NOW_S(), action_answer = NULL, reason = :reason,
    update_at = :update_at
WHERE id = :id

-- instance_unsend --
-- The request surely was not sent: no try, no intent.
UPDATE vm_list SET action = :action, action_answer = :answer WHERE id = :id

-- instance_end --
-- Final for this instance.
UPDATE vm_list SET status = :status, progress = :progress, reason = :reason, recover_to = :recover_to, active_key = NULL,
    action = NULL, finished_at = :now, update_at = :update_at
WHERE id = :id

-- instance_reopen --
-- Tried again by an operator.
UPDATE vm_list SET status = 'new', progress = 0, retry_cnt = 0, action = NULL, active_key = :active_key, finished_at = NULL
WHERE id = :id AND active_key IS NULL

-- instance_in_flight --
-- Evacuations under way over all recoveries.
SELECT COUNT(*) AS n FROM vm_list WHERE action = 'evacuate' AND status = 'running'

-- instance_in_flight_at --
-- Evacuations under way from or to a host.
SELECT COUNT(*) AS n FROM vm_list v JOIN recovery r ON r.id = v.recovery_id
WHERE v.status = 'running' AND v.action IN ('evacuate', 'reset_state')
  AND ((r.hostname = :hostname AND r.kind = 'host') OR v.action_target = :hostname OR v.action_target IS NULL)

-- instance_unfinished_at --
-- Recoveries with evacuations under way from a host, or to it since before it was booted up_s ago, and how many each.
-- One that is held for its target waits for that to start.
SELECT r.id, r.hostname, COUNT(*) AS n FROM vm_list v JOIN recovery r ON r.id = v.recovery_id
WHERE v.status = 'running' AND v.action IN ('evacuate', 'reset_state')
  AND ((r.hostname = :hostname AND r.kind = 'host')
    OR ((v.action_target = :hostname OR v.action_target IS NULL) AND v.action_at <= NOW_S() - :up_s
      AND (r.hold IS NULL OR r.hold <> 'target')))
GROUP BY r.id, r.hostname ORDER BY r.id

-- instance_hung_stops --
-- Instances evacuated from a host while an os-stop may still wait in its queue.
SELECT v.* FROM vm_list v JOIN recovery r ON r.id = v.recovery_id
WHERE r.hostname = :hostname AND r.kind = 'host' AND v.was LIKE '%"stop_queued": true%' AND v.status = 'finished' AND r.created_at >= :since

-- instance_placed --
-- Who was evacuated where, newest first.
SELECT * FROM vm_list WHERE uuid = :uuid ORDER BY id DESC LIMIT 1

-- report_known --
-- Reports that were accepted before.
SELECT id, report_key, recovery_id, outcome, reason FROM notification_list WHERE report_key IN :keys

-- report_add --
-- Reports as they came.
INSERT INTO notification_list (create_at, update_at, deleted, notification_id, notification_type, notification_regionID,
    notification_hostname, notification_uuid, notification_time, notification_eventID, notification_eventType,
    notification_detail, notification_startTime, notification_endTime, notification_tzname, notification_daylight,
    notification_cluster_port, progress, recover_by, report_key, received_at, self_report, observer, key_id, trusted,
    outcome, reason, recovery_id, body, generated_at)
VALUES (:create_at, :create_at, :deleted, :notification_id, :type, :region_id, :hostname, :uuid, :time, :event_id, :event_type,
    :detail, :start_time, :end_time, :tzname, :daylight, :cluster_port, :progress, :recover_by, :notification_id,
    :received_at, :self_report, :observer, :key_id, :trusted, :outcome, :reason, :recovery_id, :body, :generated_at)

-- report_release --
-- Unsigned reports of a recovery count from now on.
UPDATE notification_list SET trusted = 1 WHERE recovery_id = :recovery_id AND trusted = 0

-- report_list --
-- For the operator: newest reports.
SELECT * FROM notification_list WHERE deleted = 0 ORDER BY id DESC LIMIT :many

-- report_pending --
-- For the operator: reports whose recovery is not final.
SELECT * FROM notification_list WHERE progress IN (0, 1) AND deleted = 0 ORDER BY id

-- report_alive --
-- When a host last sent anything itself.
SELECT MAX(received_at) AS at FROM notification_list WHERE notification_hostname = :hostname AND self_report = 1 AND trusted = 1

-- report_newest_down --
-- When a host was last reported down.
SELECT MAX(received_at) AS at FROM notification_list
WHERE notification_hostname = :hostname AND self_report = 0 AND received_at >= :since
  AND recover_by = 0 AND trusted = 1 AND notification_eventType = '2' AND outcome IN ('opened', 'joined', 'ignored')

-- report_newer --
-- What was reported for a recovery since some time.
SELECT received_at, body FROM notification_list WHERE recovery_id = :recovery_id AND received_at > :since AND trusted = 1

-- report_who --
-- Who reported the host of a recovery down since a time; all monitors that give no name count as one.
SELECT observer, MIN(received_at) AS at FROM notification_list
WHERE recovery_id = :recovery_id AND recover_by = 0 AND trusted = 1 AND self_report = 0 AND notification_eventType = '2'
  AND received_at > :since
GROUP BY observer ORDER BY at, observer

-- report_newest_words --
-- The newest reports that the host of a recovery is down.
SELECT observer, received_at AS at, body FROM notification_list
WHERE recovery_id = :recovery_id AND recover_by = 0 AND trusted = 1 AND self_report = 0 AND notification_eventType = '2'
ORDER BY id DESC LIMIT 16

-- report_observers --
-- The hosts of a segment that were seen in reports, and what they told of themselves.
SELECT hostname, pacemaker_name, boot_id, declared_at FROM known_host WHERE cluster_port = :cluster_port

-- report_key_used --
-- When the last report signed with a key came, among those stored since some time.
SELECT MAX(received_at) AS at FROM notification_list WHERE key_id = :key_id AND create_at >= :create_at

-- evidence_add --
-- Statements about a host being off or alive.
INSERT INTO host_evidence (hostname, cluster_port, kind, at, received_at, observer, detail, trusted, report_id, guid)
VALUES (:hostname, :cluster_port, :kind, :at, :received_at, :observer, :detail, :trusted, :report_id, :guid)

-- evidence_newest --
-- The newest trusted statement of each kind and of each BMC that was read.
SELECT kind, guid, MAX(at) AS at FROM host_evidence WHERE hostname = :hostname AND trusted = 1 GROUP BY kind, guid

-- evidence_at --
-- The statement behind a time.
SELECT kind, at, observer, detail, guid FROM host_evidence
WHERE hostname = :hostname AND kind = :kind AND guid = :guid AND at = :at AND trusted = 1 ORDER BY id DESC LIMIT 1

-- evidence_unknown --
-- Why observers could not tell the power of a host, the newest first.
SELECT kind, at, observer, detail FROM host_evidence
WHERE hostname = :hostname AND kind = 'unknown' AND at >= :since AND trusted = 1 ORDER BY at DESC, id DESC LIMIT 32

-- evidence_release --
-- Evidence of unsigned reports counts once released.
UPDATE host_evidence SET trusted = 1
WHERE trusted = 0 AND report_id IN (SELECT id FROM notification_list WHERE recovery_id = :recovery_id)

-- host_known --
-- What is known of these hosts.
SELECT * FROM known_host WHERE hostname IN :hostnames

-- host_declared --
-- The hosts of these segments that pacemaker calls so, whatever the case.
SELECT * FROM known_host WHERE cluster_port IN :cluster_ports AND LOWER(pacemaker_name) IN :names

-- host_add --
-- A host first seen in a report.
INSERT INTO known_host (hostname, cluster_port, first_seen_at, boot_id, boot_seen_at, pacemaker_name, bmc_guid, declared_at,
    declared_boot)
VALUES (:hostname, :cluster_port, :first_seen_at, :boot_id, :boot_seen_at, :pacemaker_name, :bmc_guid, :declared_at,
    :declared_boot)

-- host_told --
-- A host told something new of itself, or moved to another segment.
UPDATE known_host SET boot_id = :boot_id, boot_seen_at = :boot_seen_at, cluster_port = :cluster_port,
    pacemaker_name = :pacemaker_name, bmc_guid = :bmc_guid, declared_at = :declared_at, declared_boot = :declared_boot
WHERE hostname = :hostname

-- disable_want --
-- A recovery wants nova-compute of a host disabled.
INSERT INTO host_disable (hostname, recovery_id, wanted_at, was_enabled, seen_at, reason)
VALUES (:hostname, :recovery_id, :now, :was_enabled, NULL, :reason)

-- disable_seen --
-- Nova shows it disabled.
UPDATE host_disable SET seen_at = :now WHERE hostname = :hostname AND seen_at IS NULL

-- disable_unseen --
-- It is about to be enabled by us.
UPDATE host_disable SET seen_at = NULL WHERE hostname = :hostname AND recovery_id = :recovery_id

-- disable_list --
-- Who wants a host disabled.
SELECT d.*, r.kind, r.due_at, r.process FROM host_disable d LEFT JOIN recovery r ON r.id = d.recovery_id
WHERE d.hostname = :hostname

-- disable_waiting --
-- Hosts that are disabled for ended recoveries and wait for their return.
SELECT DISTINCT d.hostname FROM host_disable d JOIN recovery r ON r.id = d.recovery_id
WHERE r.due_at IS NULL AND r.kind = 'host' AND d.seen_at IS NOT NULL

-- disable_clear --
-- A recovery no longer wants it.
DELETE FROM host_disable WHERE hostname = :hostname AND recovery_id = :recovery_id

-- disable_clear_host --
-- A host is back: nobody wants it disabled any more.
DELETE FROM host_disable WHERE hostname = :hostname

-- spare_list --
-- The spares of a segment, oldest first.
SELECT * FROM reserve_list WHERE cluster_port = :cluster_port AND deleted = 0 ORDER BY id

-- spare_all --
-- All spares.
SELECT * FROM reserve_list WHERE deleted = 0 ORDER BY cluster_port, id

-- spare_counts --
-- For the metrics. A segment that had spares and has none left is 0, so that an alert can tell.
SELECT cluster_port, SUM(CASE WHEN deleted = 0 THEN 1 ELSE 0 END) AS n FROM reserve_list GROUP BY cluster_port

-- spare_take --
-- Allocate a spare to a recovery; 1 row or none.
UPDATE reserve_list SET deleted = 1, delete_at = :delete_at, update_at = :delete_at, used_by = :recovery_id, listed_key = NULL
WHERE id = :id AND deleted = 0

-- spare_give_back --
-- A spare that served nobody is a spare again.
UPDATE reserve_list SET deleted = 0, delete_at = NULL, update_at = :update_at, used_by = NULL, listed_key = hostname
WHERE used_by = :recovery_id AND hostname = :hostname AND deleted = 1
  AND NOT EXISTS (SELECT 1 FROM (SELECT listed_key FROM reserve_list) other WHERE other.listed_key = reserve_list.hostname)

-- spare_drop --
-- A host leaves the list: it failed, or an operator says so.
UPDATE reserve_list SET deleted = 1, delete_at = :delete_at, update_at = :delete_at, listed_key = NULL
WHERE hostname = :hostname AND deleted = 0

-- spare_delete --
-- An operator takes a spare off the list of one segment.
UPDATE reserve_list SET deleted = 1, delete_at = :delete_at, update_at = :delete_at, listed_key = NULL
WHERE hostname = :hostname AND cluster_port = :cluster_port AND deleted = 0

-- spare_add --
-- An operator puts a spare on the list.
INSERT INTO reserve_list (create_at, update_at, deleted, cluster_port, hostname, listed_key)
VALUES (:create_at, :create_at, 0, :cluster_port, :hostname, :hostname)

-- spare_rename --
-- An operator puts one spare in the place of another.
UPDATE reserve_list SET hostname = :after_host, listed_key = :after_host, update_at = :update_at
WHERE hostname = :before_host AND cluster_port = :cluster_port AND deleted = 0

-- spare_of --
-- The spare a recovery has.
SELECT * FROM reserve_list WHERE used_by = :recovery_id AND hostname = :hostname

-- spare_serving --
-- Open recoveries that use a host as their spare.
SELECT id FROM recovery WHERE target = :hostname AND kind = 'host' AND due_at IS NOT NULL

-- segment_get --
-- The settings of a segment.
SELECT * FROM failover_segment WHERE cluster_port = :cluster_port

-- segment_all --
-- The settings of all segments.
SELECT * FROM failover_segment ORDER BY cluster_port

-- segment_add --
-- Settings for a segment that had none.
INSERT INTO failover_segment (cluster_port) VALUES (:cluster_port)

-- segment_pause --
-- Pause or resume a segment.
UPDATE failover_segment SET paused_at = :paused_at, paused_until = :paused_until, paused_by = :paused_by
WHERE cluster_port = :cluster_port

-- segment_method --
-- The recovery method of a segment.
UPDATE failover_segment SET recovery_method = :recovery_method WHERE cluster_port = :cluster_port

-- segment_listed --
-- The segments that the API lists.
SELECT * FROM failover_segment WHERE uuid IS NOT NULL ORDER BY number

-- segment_by_uuid --
-- One of them.
SELECT * FROM failover_segment WHERE uuid = :uuid

-- segment_called --
-- The segment of this name, key or uuid: what an operator may call it.
SELECT * FROM failover_segment WHERE uuid = :called OR name = :called OR cluster_port = :called

-- segment_next_number --
-- The number of the next segment.
SELECT COALESCE(MAX(number), 0) + 1 AS number FROM failover_segment

-- segment_register --
-- What makes the settings of a cluster a segment of the API.
UPDATE failover_segment SET number = :number, uuid = :uuid, name = :name, service_type = :service_type,
    description = :description, enabled = :enabled, recovery_method = :recovery_method, created_at = :now, updated_at = NULL
WHERE cluster_port = :cluster_port AND uuid IS NULL

-- segment_beat --
-- A segment, or what belongs to it, is about to be changed: two that do so at once wait for each other, or conflict.
UPDATE failover_segment SET beat = beat + 1 WHERE uuid = :uuid

-- segment_beat_of --
-- The same of the segment that a host is registered in.
UPDATE failover_segment SET beat = beat + 1
WHERE cluster_port IN (SELECT cluster_port FROM segment_host WHERE hostname = :hostname)

-- segment_change --
-- A segment as the API changes it.
UPDATE failover_segment SET name = :name, service_type = :service_type, description = :description, enabled = :enabled,
    recovery_method = :recovery_method, updated_at = :now
WHERE uuid = :uuid

-- segment_remove --
-- A segment is no more.
DELETE FROM failover_segment WHERE uuid = :uuid AND paused_at IS NULL

-- segment_forget --
-- A segment is no more, but its pause.
UPDATE failover_segment SET number = NULL, uuid = NULL, name = NULL, service_type = NULL, description = NULL, enabled = 1,
    recovery_method = NULL, created_at = NULL, updated_at = NULL
WHERE uuid = :uuid

-- segment_host_add --
-- A host of a segment.
INSERT INTO segment_host (uuid, cluster_port, hostname, type, control_attributes, on_maintenance, created_at)
VALUES (:uuid, :cluster_port, :hostname, :type, :control_attributes, :on_maintenance, :now)

-- segment_host_change --
-- A host as the API changes it.
UPDATE segment_host SET hostname = :hostname, type = :type, control_attributes = :control_attributes,
    on_maintenance = :on_maintenance, cleared_at = :cleared_at, updated_at = :now
WHERE uuid = :uuid

-- segment_host_remove --
-- A host leaves its segment.
DELETE FROM segment_host WHERE uuid = :uuid

-- segment_host_all --
-- Every registered host, with what makes it reserved, and since when a recovery wants it disabled.
SELECT h.*, s.uuid AS segment_uuid, s.name AS segment_name, s.enabled AS segment_enabled,
    CASE WHEN r.id IS NULL THEN 0 ELSE 1 END AS reserved,
    (SELECT MAX(d.wanted_at) FROM host_disable d WHERE d.hostname = h.hostname AND d.seen_at IS NOT NULL) AS disabled_at,
    (SELECT COUNT(*) FROM recovery b WHERE b.hostname = h.hostname AND b.kind = 'return' AND b.due_at IS NOT NULL) AS returns
FROM segment_host h JOIN failover_segment s ON s.cluster_port = h.cluster_port
LEFT JOIN reserve_list r ON r.listed_key = h.hostname
ORDER BY h.id

-- segment_host_of_names --
-- The same of these hosts.
SELECT h.*, s.uuid AS segment_uuid, s.name AS segment_name, s.enabled AS segment_enabled,
    CASE WHEN r.id IS NULL THEN 0 ELSE 1 END AS reserved,
    (SELECT MAX(d.wanted_at) FROM host_disable d WHERE d.hostname = h.hostname AND d.seen_at IS NOT NULL) AS disabled_at,
    (SELECT COUNT(*) FROM recovery b WHERE b.hostname = h.hostname AND b.kind = 'return' AND b.due_at IS NOT NULL) AS returns
FROM segment_host h JOIN failover_segment s ON s.cluster_port = h.cluster_port
LEFT JOIN reserve_list r ON r.listed_key = h.hostname
WHERE h.hostname IN :hostnames

-- segment_host_in --
-- The names of the hosts of a segment.
SELECT hostname FROM segment_host WHERE cluster_port = :cluster_port

-- recovery_open_about --
-- The open recoveries about these hosts, or that one of them serves as a spare.
SELECT id, kind, hostname, status, target FROM recovery WHERE hostname IN :hostnames AND due_at > 0
UNION SELECT id, kind, hostname, status, target FROM recovery WHERE due_at > 0 AND target IN :targets ORDER BY id

-- spare_move --
-- A spare goes over to another segment.
UPDATE reserve_list SET cluster_port = :cluster_port, update_at = :update_at WHERE listed_key = :hostname

-- controller_beat (sqlite) --
-- A controller lives.
INSERT INTO controller (name, version, pid, started_at, beat_at) VALUES (:name, :version, :pid, :started_at, NOW_S())
ON CONFLICT (name) DO UPDATE SET version = :version, pid = :pid, started_at = :started_at, beat_at = NOW_S()

-- controller_beat (mysql) --
-- A controller lives.
INSERT INTO controller (name, version, pid, started_at, beat_at) VALUES (:name, :version, :pid, :started_at, NOW_S())
ON DUPLICATE KEY UPDATE version = :version, pid = :pid, started_at = :started_at, beat_at = NOW_S()

-- database_now --
-- The database's clock, and a sign that it answers.
SELECT NOW_S() AS now

-- purge_reports (mysql) --
-- Old reports whose recovery has ended, some at a time.
DELETE FROM notification_list WHERE create_at < :before AND (progress NOT IN (0, 1) OR progress IS NULL) ORDER BY create_at LIMIT 1000

-- purge_reports (sqlite) --
-- Old reports whose recovery has ended, some at a time.
DELETE FROM notification_list WHERE id IN (SELECT id FROM notification_list
    WHERE create_at < :before AND (progress NOT IN (0, 1) OR progress IS NULL) ORDER BY create_at LIMIT 1000)

-- purge_recoveries --
-- Old ended recoveries that keep no host disabled.
SELECT id FROM recovery WHERE due_at IS NULL AND finished_at < :before
  AND NOT EXISTS (SELECT 1 FROM host_disable d WHERE d.recovery_id = recovery.id) LIMIT 500

-- purge_events --
-- Their journal.
DELETE FROM recovery_event WHERE recovery_id IN :ids

-- purge_instances --
-- Their instances.
DELETE FROM vm_list WHERE recovery_id IN :ids

-- purge_recovery --
-- And themselves.
DELETE FROM recovery WHERE id IN :ids AND due_at IS NULL

-- purge_old_instances --
-- Instances of 2015, which belong to no recovery.
DELETE FROM vm_list WHERE recovery_id IS NULL AND create_at < :at

-- purge_evidence --
-- Evidence too old to count; every host keeps the newest of each kind.
DELETE FROM host_evidence WHERE received_at < :before AND id NOT IN (SELECT id FROM (SELECT MAX(id) AS id FROM host_evidence
    GROUP BY hostname, kind) newest)

-- expire_reports --
-- Recoveries nobody has begun that are older than notification_expiration_sec; a paused segment's wait.
SELECT * FROM recovery WHERE due_at > 0 AND due_at <= NOW_S() AND status = 'new' AND kind <> 'return' AND owner IS NULL AND step_at < :before
  AND NOT EXISTS (SELECT 1 FROM failover_segment s WHERE s.cluster_port IN ('*', recovery.cluster_port)
                  AND s.paused_at IS NOT NULL AND (s.paused_until IS NULL OR s.paused_until > NOW_S()))

-- instance_retry --
-- The same request was sent once more.
UPDATE vm_list SET retry_cnt = retry_cnt + 1 WHERE id = :id

-- instance_name --
-- The name of the instance of an instance recovery, once known.
UPDATE vm_list SET name = :name WHERE recovery_id = :recovery_id

-- instance_was --
-- What is remembered of an instance from before.
UPDATE vm_list SET was = :was WHERE id = :id

-- ---- What the operator's scripts need besides (masakari/admin.py, admin_lists.py) ----

-- recovery_by_ids --
-- Several recoveries.
SELECT * FROM recovery WHERE id IN :ids

-- recovery_newer_host --
-- What came after a recovery of the same host.
SELECT * FROM recovery WHERE hostname = :hostname AND kind IN :kinds AND id > :id ORDER BY id

-- recovery_newer_instance --
-- What came after a recovery of the same instance.
SELECT * FROM recovery WHERE uuid = :uuid AND kind = 'instance' AND id > :id ORDER BY id

-- recovery_open_in --
-- The open recoveries of a segment, or all of them.
SELECT * FROM recovery WHERE due_at IS NOT NULL AND (:cluster_port = '*' OR cluster_port = :cluster_port) ORDER BY id

-- recovery_drop_claims --
-- A pause takes the work away from whoever is at it: a worker's next write matches nothing.
UPDATE recovery SET epoch = epoch + 1, beat = beat + 1, owner = NULL, lease_until = 0
WHERE owner IS NOT NULL AND due_at IS NOT NULL AND (:cluster_port = '*' OR cluster_port = :cluster_port)

-- recovery_forget_target --
-- The spare of an ended recovery is no longer its own.
UPDATE recovery SET target = NULL WHERE id = :id AND due_at IS NULL

-- controller_newest --
-- When any controller was last alive.
SELECT MAX(beat_at) AS at FROM controller

-- segment_names --
-- Every segment that a host, a spare or a setting names.
SELECT cluster_port FROM known_host UNION SELECT cluster_port FROM reserve_list WHERE deleted = 0
UNION SELECT cluster_port FROM failover_segment WHERE cluster_port <> '*'

-- spare_listed --
-- Where a host is listed as a spare.
SELECT * FROM reserve_list WHERE listed_key = :hostname

-- spare_in_use --
-- Spares that serve an open recovery.
SELECT s.id, s.cluster_port, s.hostname, s.create_at, r.id AS recovery_id, r.hostname AS failed_host
FROM reserve_list s JOIN recovery r ON r.id = s.used_by AND r.target = s.hostname
WHERE r.due_at IS NOT NULL ORDER BY s.cluster_port, s.id

-- report_failed --
-- For the operator: the newest reports whose recovery failed.
SELECT * FROM notification_list WHERE progress = 3 AND deleted = 0 ORDER BY id DESC LIMIT :many

-- instance_open --
-- For the operator: instances that a recovery is at.
SELECT v.*, r.hostname, r.status AS recovery_status, r.hold, r.reason AS recovery_reason
FROM vm_list v LEFT JOIN recovery r ON r.id = v.recovery_id WHERE v.active_key IS NOT NULL ORDER BY v.id

-- instance_failed --
-- For the operator: the newest instances that failed.
SELECT v.*, r.hostname, r.status AS recovery_status, r.hold, r.reason AS recovery_reason
FROM vm_list v LEFT JOIN recovery r ON r.id = v.recovery_id
WHERE v.progress = 3 AND v.deleted = 0 ORDER BY v.id DESC LIMIT :many

-- instance_newest --
-- For the operator: the newest instances.
SELECT v.*, r.hostname, r.status AS recovery_status, r.hold, r.reason AS recovery_reason
FROM vm_list v LEFT JOIN recovery r ON r.id = v.recovery_id WHERE v.deleted = 0 ORDER BY v.id DESC LIMIT :many

-- instance_of_uuid --
-- Every row of an instance, with the state of its recovery.
SELECT v.*, r.status AS recovery_status, r.hold FROM vm_list v LEFT JOIN recovery r ON r.id = v.recovery_id
WHERE v.uuid = :uuid AND v.deleted = 0 ORDER BY v.id

-- instance_declare --
-- Finished by an operator's word; only what failed and nobody is at.
UPDATE vm_list SET progress = 2, status = 'finished', reason = :reason, update_at = :update_at
WHERE id = :id AND progress = 3 AND active_key IS NULL

-- recovery_with_aggregates --
-- Ended recoveries of hosts that remember aggregates they put a spare in; paused segments are left alone.
SELECT * FROM recovery WHERE kind = 'host' AND due_at IS NULL AND data LIKE '%"aggregates": [{%'
  AND NOT EXISTS (SELECT 1 FROM failover_segment
                  WHERE cluster_port = '*' AND paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > NOW_S()))
  AND cluster_port NOT IN (SELECT cluster_port FROM failover_segment
                           WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > NOW_S()))

-- recovery_remember_ended --
-- What an ended recovery must not forget; no row when somebody tries it again.
UPDATE recovery SET data = :data, beat = beat + 1 WHERE id = :id AND epoch = :epoch AND due_at IS NULL

-- notification_by_id_asc --
-- A page of notifications in the order in which they came; `id` is that of the last one seen.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
  AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
  AND (:since IS NULL OR n.generated_at >= :since)
  AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
    WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
    WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
  AND (:id IS NULL OR n.id > :id)
ORDER BY n.id ASC LIMIT :many

-- notification_by_time_asc --
-- The same in the order in which their failures were noticed.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
  AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
  AND (:since IS NULL OR n.generated_at >= :since)
  AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
    WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
    WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
  AND (:id IS NULL OR n.generated_at > :value OR (n.generated_at = :value AND n.id > :id)
    OR (:value IS NULL AND (n.generated_at IS NOT NULL OR n.id > :id)))
ORDER BY n.generated_at ASC, n.id ASC LIMIT :many

-- notification_by_other_asc --
-- The same in another order. It sorts all that the filters let through, and then reads the rows of one page.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM (
    SELECT k.id, k.sorted_by FROM (
        SELECT n.id, COALESCE(
            CASE :sort
            WHEN 'type' THEN CASE n.notification_type WHEN 'rscGroup' THEN 'COMPUTE_HOST' WHEN 'VM' THEN 'VM' ELSE 'PROCESS' END
            WHEN 'updated_at' THEN n.update_at
            WHEN 'notification_uuid' THEN n.report_key
            WHEN 'source_host_uuid' THEN (SELECT h.uuid FROM segment_host h WHERE h.hostname = n.notification_hostname)
            ELSE CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
                WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
                WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END
            END, '') AS sorted_by
        FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
        WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
          AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
          AND (:since IS NULL OR n.generated_at >= :since)
          AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
            WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
            WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
    ) k
    WHERE :id IS NULL OR k.sorted_by > :value OR (k.sorted_by = :value AND k.id > :id)
    ORDER BY k.sorted_by ASC, k.id ASC LIMIT :many
) p JOIN notification_list n ON n.id = p.id LEFT JOIN recovery r ON r.id = n.recovery_id
ORDER BY p.sorted_by ASC, p.id ASC

-- notification_by_id_desc --
-- A page of notifications in the order in which they came; `id` is that of the last one seen.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
  AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
  AND (:since IS NULL OR n.generated_at >= :since)
  AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
    WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
    WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
  AND (:id IS NULL OR n.id < :id)
ORDER BY n.id DESC LIMIT :many

-- notification_by_time_desc --
-- The same in the order in which their failures were noticed.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
  AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
  AND (:since IS NULL OR n.generated_at >= :since)
  AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
    WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
    WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
  AND (:id IS NULL OR n.generated_at < :value OR (n.generated_at = :value AND n.id < :id)
    OR (n.generated_at IS NULL AND (:value IS NOT NULL OR n.id < :id)))
ORDER BY n.generated_at DESC, n.id DESC LIMIT :many

-- notification_by_other_desc --
-- The same in another order. It sorts all that the filters let through, and then reads the rows of one page.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM (
    SELECT k.id, k.sorted_by FROM (
        SELECT n.id, COALESCE(
            CASE :sort
            WHEN 'type' THEN CASE n.notification_type WHEN 'rscGroup' THEN 'COMPUTE_HOST' WHEN 'VM' THEN 'VM' ELSE 'PROCESS' END
            WHEN 'updated_at' THEN n.update_at
            WHEN 'notification_uuid' THEN n.report_key
            WHEN 'source_host_uuid' THEN (SELECT h.uuid FROM segment_host h WHERE h.hostname = n.notification_hostname)
            ELSE CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
                WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
                WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END
            END, '') AS sorted_by
        FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
        WHERE n.notification_type IN ('rscGroup', 'VM', 'nodeStatus') AND n.deleted = 0
          AND (:type IS NULL OR n.notification_type = :type) AND (:hostname IS NULL OR n.notification_hostname = :hostname)
          AND (:since IS NULL OR n.generated_at >= :since)
          AND (:status IS NULL OR :status = CASE WHEN n.progress = 1 AND r.hold = 'internal' THEN 'error' WHEN n.outcome = 'noted' THEN 'finished'
            WHEN n.progress = 0 THEN 'new' WHEN n.progress = 1 THEN 'running' WHEN n.progress = 2 THEN 'finished'
            WHEN n.progress = 3 THEN 'failed' ELSE 'ignored' END)
    ) k
    WHERE :id IS NULL OR k.sorted_by < :value OR (k.sorted_by = :value AND k.id < :id)
    ORDER BY k.sorted_by DESC, k.id DESC LIMIT :many
) p JOIN notification_list n ON n.id = p.id LEFT JOIN recovery r ON r.id = n.recovery_id
ORDER BY p.sorted_by DESC, p.id DESC

-- notification_called --
-- The notification with this id, as monitors know it.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.report_key = :called

-- notification_numbered --
-- The notification with this number.
SELECT n.id, n.create_at, n.update_at, n.notification_id, n.notification_type, n.notification_hostname, n.notification_uuid,
    n.notification_eventType, n.notification_detail, n.progress, n.report_key, n.outcome, n.recovery_id, n.generated_at, n.body, n.key_id, n.reason,
    n.received_at,
    r.hold AS recovery_hold, r.status AS recovery_status, r.kind AS recovery_kind
FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.id = :id

-- notification_lately --
-- What was reported about a host since a moment, but for what came to this outcome, or was repaired before this other moment.
SELECT n.body, n.key_id FROM notification_list n LEFT JOIN recovery r ON r.id = n.recovery_id
WHERE n.notification_hostname = :hostname AND n.self_report IN (0, 1) AND n.trusted = 1 AND n.received_at >= :since
  AND n.notification_type = :type AND n.outcome <> :outcome
  AND (r.status IS NULL OR r.status <> 'finished' OR r.finished_at >= :generated_at)

-- segment_host_uuids --
-- What the API calls the registered hosts.
SELECT hostname, uuid FROM segment_host

-- segment_host_called --
-- The registered host with this uuid.
SELECT hostname FROM segment_host WHERE uuid = :uuid
