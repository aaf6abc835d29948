"""The options of masakari.conf in OpenStack's form, as tables: which of ours each one is, or why it means nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Ways = tuple[tuple[str, Mapping[str, str]], ...]

AUTHTOKEN = "keystone_authtoken"


@dataclass(frozen=True, slots=True)
class Group:
    """Options of one of our sections that say something together, and where OpenStack's form says it.

    ways: a section of that form, and which of its options is which of ours; the first way goes first. leads: the options of ours
    that say who or what it is about. A way without one is not used, nor one whose lead differs from what is used already.
    """

    section: str
    leads: tuple[str, ...]
    ways: Ways


def _one(section: str, option: str, *ways: tuple[str, str]) -> Group:
    return Group(section, (option,), tuple((theirs, {name: option}) for theirs, name in ways))


USED: tuple[Group, ...] = (
    _one(
        "nova",
        "auth_url",
        ("DEFAULT", "os_privileged_user_auth_url"),
        (AUTHTOKEN, "auth_url"),
        (AUTHTOKEN, "www_authenticate_uri"),
        (AUTHTOKEN, "auth_uri"),
    ),
    Group(
        "nova",
        ("admin_user", "application_credential_id"),
        (
            (
                "DEFAULT",
                {
                    "os_privileged_user_name": "admin_user",
                    "os_privileged_user_password": "admin_password",
                    "os_user_domain_name": "user_domain_name",
                },
            ),
            (
                AUTHTOKEN,
                {
                    "username": "admin_user",
                    "user_name": "admin_user",
                    "admin_user": "admin_user",
                    "password": "admin_password",
                    "admin_password": "admin_password",
                    "user_domain_name": "user_domain_name",
                    "user_domain_id": "user_domain_id",
                    "application_credential_id": "application_credential_id",
                    "application_credential_secret": "application_credential_secret",
                },
            ),
        ),
    ),
    Group(
        "nova",
        ("project_name",),
        (
            ("DEFAULT", {"os_privileged_user_tenant": "project_name", "os_project_domain_name": "project_domain_name"}),
            (
                AUTHTOKEN,
                {
                    "project_name": "project_name",
                    "tenant_name": "project_name",
                    "admin_tenant_name": "project_name",
                    "project_domain_name": "project_domain_name",
                    "project_domain_id": "project_domain_id",
                },
            ),
        ),
    ),
    _one("nova", "region", ("DEFAULT", "os_region_name"), (AUTHTOKEN, "region_name")),
    _one("nova", "ca_bundle", ("DEFAULT", "nova_ca_certificates_file"), (AUTHTOKEN, "cafile")),
    _one("wsgi", "server_host", ("DEFAULT", "masakari_api_listen")),
    _one("wsgi", "server_port", ("DEFAULT", "masakari_api_listen_port")),
    _one("wsgi", "request_timeout_s", ("wsgi", "client_socket_timeout")),
    _one("recover_starter", "semaphore_multiplicity", ("DEFAULT", "host_failure_recovery_threads")),
    _one("recover_starter", "evacuation_timeout_s", ("DEFAULT", "wait_period_after_evacuation")),
    _one("recover_starter", "api_check_interval", ("DEFAULT", "verify_interval")),
    _one("recover_starter", "notification_expiration_sec", ("DEFAULT", "notifications_expired_interval")),
    _one(
        "instance_ha",
        "duplicate_notification_detection_interval",
        ("DEFAULT", "duplicate_notification_detection_interval"),
    ),
)
"""What is used as it is written."""

TRANSLATED: Mapping[str, Mapping[str, str]] = {
    "DEFAULT": {
        "debug": "`[log] log_level = debug`, if it is true",
        "log_file": "`[log] log_file`, below `log_dir` unless it is an absolute path",
        "log_dir": "without `log_file`: `masakari-controller.log` in that folder",
        "nova_catalog_admin_info": "its last part is `[nova] interface`",
    },
    AUTHTOKEN: {"auth_type": "only `password` and `v3applicationcredential` are possible"},
    "database": {
        "connection": "`[db]`: `mysql+pymysql://USER:PASSWORD@HOST:PORT/NAME?charset=utf8`, or `sqlite:////FILE`; of the "
        "parameters, `charset` and `unix_socket`"
    },
}
"""Options that are used, but not as they are written, and how; all sections here are theirs alone."""

NO_BUS = "there is no message bus: reports come over HTTP, and what is to be done is in the database"
ONE_PROCESS = "the controller is one process with threads ([wsgi] threads, [recover_starter] workers)"
NO_PERIOD = "what is due is begun at once, without a period"
NO_CHOICE = "the steps of a recovery are fixed (docs/recovery.md)"
LOG_FORM = "the log goes to the journal, or to log_file, and every record is one line of a fixed form"
NO_PASTE = "the API has no pipeline that could be changed"
TLS = "TLS is not ended here, but by a proxy in front of the controller (docs/tls.md)"
CHECKED = "certificates are always checked; [nova] ca_bundle names the authorities to trust"
NO_FILES = "the controller keeps everything in its database"
TOKENS = "the controller itself remembers tokens, for [instance_ha] token_cache_s"
THERE = "auth_url says where Keystone is"
NO_WAIT = "nothing waits for a fixed time: what counts is the proof that the host is off ([safety])"
STOP = "the controller stops within 5 s, and goes on with what is under way after the next start"
POWER = "the time for a stop or a start is [recover_starter] api_check_max_cnt times api_check_interval"
CONNECTIONS = "how connections are made and tried again is said in [db]"
NO_SCOPE = "the user signs in to a project"
NO_POLICY = "there are no policy files"
NO_DEBUGGER = "there is no way in for a debugger"

UNUSED: Mapping[str, Mapping[str, str]] = {
    "DEFAULT": {
        NO_BUS: (
            "transport_url control_exchange masakari_topic rpc_* rabbit_* conn_pool_* executor_thread_pool_size "
            "notification_format notification_topics"
        ),
        ONE_PROCESS: "masakari_api_workers masakari_engine_workers workers wsgi_default_pool_size",
        STOP: "graceful_shutdown_timeout",
        NO_PERIOD: (
            "process_unfinished_notifications_interval retry_notification_new_status_interval "
            "check_expired_notifications_interval periodic_* run_external_periodic_tasks report_interval"
        ),
        "controllers tell each other by their leases (lease_s)": "service_down_time",
        NO_WAIT: "wait_period_after_service_update",
        POWER: "wait_period_after_power_off wait_period_after_power_on",
        NO_CHOICE: "notification_driver",
        LOG_FORM: (
            "use_syslog use_journal use_json use_stderr use_eventlog syslog_* verbose logging_* log_config* "
            "log_date_format log_format log_rot* log_color log_options max_logfile_* default_log_levels "
            "watch_log_file publish_errors instance_format instance_uuid_format rate_limit_* fatal_deprecations "
            "wsgi_log_format"
        ),
        "who this controller is says [controller] name": "host my_ip",
        NO_FILES: "state_path bindir pybasedir tempdir lock_path",
        "the v1 API always asks Keystone": "auth_strategy",
        TLS: "use_ssl enabled_ssl_apis ssl_* use_forwarded_for secure_proxy_ssl_header",
        NO_PASTE: "api_paste_config wsgi_keep_alive max_header_line tcp_keepidle masakari_link_prefix",
        CHECKED: "nova_api_insecure",
        "a page of a list has at most 1000 entries": "osapi_max_limit",
        NO_SCOPE: "os_system_scope",
        NO_DEBUGGER: "backdoor_* pydev_* monkey_patch* fatal_exception_format_errors",
    },
    AUTHTOKEN: {
        TOKENS: (
            "memcached_servers memcache_* memcache_servers cache token_cache_time signing_dir "
            "revocation_cache_time check_revocations_for_cached hash_algorithms enforce_token_bind"
        ),
        THERE: (
            "identity_uri auth_host auth_port auth_protocol auth_admin_prefix auth_version interface service_type "
            "admin_token"
        ),
        CHECKED: "insecure",
        "no certificate of our own is shown to Keystone": "certfile keyfile",
        "the times to wait are [nova] connect_timeout_s and read_timeout_s": "http_*",
        NO_SCOPE: "system_scope domain_id domain_name trust_id default_domain_*",
        "the user and the project are known by name": "project_id user_id tenant_id",
        "an application credential is named by application_credential_id": "application_credential_name",
        "write the credentials here, or in [nova]": "auth_section",
        NO_PASTE: "delay_auth_decision include_service_catalog service_token_roles*",
    },
    "database": {
        CONNECTIONS: (
            "backend slave_connection mysql_* sqlite_synchronous idle_timeout asyncio_* connection_* max_* "
            "min_pool_size pool_* retry_interval use_db_reconnect use_tpool db_*"
        ),
    },
    "wsgi": {
        NO_PASTE: "api_paste_config keep_alive max_header_line tcp_keepidle",
        ONE_PROCESS: "default_pool_size",
        TLS: "ssl_* secure_proxy_ssl_header",
        LOG_FORM: "wsgi_log_format",
    },
}
"""Options that mean nothing here, by section and reason, separated by blanks. A star stands for any end of a name."""

UNUSED_SECTIONS: Mapping[str, str] = {
    NO_BUS: "oslo_messaging_* matchmaker_* upgrade_levels",
    NO_CHOICE: "taskflow taskflow_driver_recovery_flows customized_recovery_flow_opts",
    "controllers share the work through the database": "coordination",
    NO_PASTE: "oslo_middleware cors cors.* healthcheck osapi_v1 oslo_versionedobjects",
    NO_POLICY: "oslo_policy oslo_limit",
    TLS: "ssl",
    NO_FILES: "oslo_concurrency cache",
    NO_DEBUGGER: "oslo_reports profiler remote_debug privsep",
    "the user of [nova] is the only one that signs in": "service_user",
}
"""Sections that mean nothing here, by reason, in the same way."""
