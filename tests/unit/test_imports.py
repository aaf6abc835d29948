"""The rules of the source tree: who may touch the outside world, who may import whom, and how big, how
documented and how finished the code is."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("masakari", "hostmonitor", "instancemonitor", "processmonitor")
MONITORS = PACKAGES[1:]

# What only a port may use; "clock" stands for reading the time or sleeping.
OUTSIDE = {
    "pymysql",
    "sqlite3",
    "requests",
    "urllib3",
    "urllib.request",
    "http.client",
    "http.server",
    "waitress",
    "socket",
    "subprocess",
    "libvirt",
    "clock",
}

# The ports, and what each may use of it. Whoever is not here gets what it needs passed in.
PORTS = {
    "hostmonitor/tool.py": {"subprocess"},
    "instancemonitor/libvirt_link.py": {"libvirt"},
    "instancemonitor/libvirt_open.py": {"libvirt"},
    "instancemonitor/libvirt_session.py": {"libvirt"},
    "masakari/api.py": {"waitress"},
    "masakari/cloud_http.py": {"requests", "urllib3", "socket"},
    "masakari/common/clock.py": {"clock"},
    "masakari/common/daemon.py": {"socket"},
    "masakari/common/node.py": {"socket", "subprocess"},
    "masakari/common/post.py": {"http.client", "socket"},
    "masakari/checkup_database.py": {"pymysql", "sqlite3"},
    "masakari/common/trial.py": {"http.client"},
    "masakari/database_admin.py": {"pymysql", "socket"},
    "masakari/database_mysql.py": {"pymysql"},
    "masakari/database_sqlite.py": {"sqlite3"},
    "masakari/hook.py": {"subprocess"},
    "processmonitor/commands.py": {"subprocess"},
    "processmonitor/systemd.py": {"subprocess"},
    "utils/masakari_doctor.py": {"subprocess"},
}

CLOCK_OF_TIME = {
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "sleep",
}
CLOCK_OF_DATETIME = {"now", "utcnow", "today"}

MODULE_LINES = 450
FUNCTION_LINES = 60

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Public = (*Function, ast.ClassDef)


def sources() -> list[str]:
    """Every Python file that is installed or shipped, as a path relative to the tree."""
    files = [path for folder in (*PACKAGES, "utils") for path in (ROOT / folder).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in files)


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"), filename=source)


def imports(source: str) -> set[str]:
    """Full names of all modules (and of names taken from them) that a file imports, anywhere in it."""
    package = Path(source).parent.parts
    found: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def under(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def reads_clock(tree: ast.Module) -> bool:
    """Whether a file asks the operating system for the time, or sleeps."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            if CLOCK_OF_TIME & {alias.name for alias in node.names}:
                return True
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).split(".")[-1]
            if owner == "time" and node.attr in CLOCK_OF_TIME:
                return True
            if owner in ("datetime", "date") and node.attr in CLOCK_OF_DATETIME:
                return True
    return False


def outside(source: str) -> set[str]:
    """What a file uses of the outside world."""
    used = {package for package in OUTSIDE for name in imports(source) if under(name, package)}
    return used | {"clock"} if reads_clock(parsed(source)) else used


def long_functions(tree: ast.Module) -> dict[str, int]:
    """Functions over the limit, with their length."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found[node.name] = length
    return found


def inherited(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Names of the methods that a class redefines from the classes of its own module."""
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    own = {child.name for base in bases for child in base.body if isinstance(child, Function)}
    return own.union(*(inherited(base, classes) for base in bases))


def is_field(node: ast.AST) -> bool:
    """Whether a method only says that a protocol has a field: a property without a body."""
    if not isinstance(node, ast.FunctionDef) or ast.unparse(node.body[-1]) != "...":
        return False
    return [ast.unparse(decorator) for decorator in node.decorator_list] == ["property"]


def undocumented(tree: ast.Module) -> list[str]:
    """Everything public in a module that has no docstring. A redefined method has that of its base, and
    the fields of a protocol are fields."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if not isinstance(node, Public) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            known = inherited(node, classes)
            for method in node.body:
                if not isinstance(method, Function) or method.name.startswith("_") or method.name in known:
                    continue
                if not is_field(method) and not ast.get_docstring(method):
                    found.append(f"{node.name}.{method.name}")
    return found


@pytest.mark.parametrize("source", sources())
def test_only_ports_touch_the_outside_world(source: str) -> None:
    assert outside(source) <= PORTS.get(source, set())


def test_no_port_is_allowed_more_than_it_uses() -> None:
    assert [port for port in PORTS if not (ROOT / port).is_file()] == []
    assert {port: outside(port) for port in PORTS} == PORTS


@pytest.mark.parametrize("source", [name for name in sources() if name.startswith("masakari/common/")])
def test_common_imports_nothing_else_of_masakari(source: str) -> None:
    ours = {name for name in imports(source) if under(name, *PACKAGES)}
    assert {name for name in ours if not under(name, "masakari.common")} == set()


@pytest.mark.parametrize("source", [name for name in sources() if name.startswith(MONITORS)])
def test_a_monitor_imports_itself_and_common_alone(source: str) -> None:
    ours = {name for name in imports(source) if under(name, *PACKAGES)} - {"masakari.__version__"}
    assert {name for name in ours if not under(name, "masakari.common", source.split("/")[0])} == set()


@pytest.mark.parametrize("source", [name for name in sources() if name.startswith("masakari/")])
def test_the_controller_imports_no_monitor(source: str) -> None:
    assert {name for name in imports(source) if under(name, *MONITORS)} == set()


@pytest.mark.parametrize("source", sources())
def test_no_program_imports_the_tests(source: str) -> None:
    assert {name for name in imports(source) if under(name, "tests")} == set()


@pytest.mark.parametrize("source", sources())
def test_modules_and_functions_stay_small(source: str) -> None:
    lines = (ROOT / source).read_text(encoding="utf-8").count("\n")
    assert lines <= MODULE_LINES
    assert long_functions(parsed(source)) == {}


@pytest.mark.parametrize("source", sources())
def test_everything_public_has_a_docstring(source: str) -> None:
    assert undocumented(parsed(source)) == []


@pytest.mark.parametrize("source", sources())
def test_nothing_is_left_to_do(source: str) -> None:
    words = set((ROOT / source).read_text(encoding="utf-8").replace(":", " ").split())
    assert words & {"TODO", "FIXME", "XXX"} == set()


# The checks themselves: each must see what it is there for.


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(1)",
        "from time import monotonic",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime, timezone\ndatetime.now(timezone.utc)",
        "from datetime import date\ndef f(): return date.today()",
    ],
)
def test_reading_the_clock_is_noticed(code: str) -> None:
    assert reads_clock(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    ["def f(clock): return clock.now()", "import time\ntime.strptime('2015', '%Y')", "self.clock.sleep(1)"],
)
def test_a_clock_passed_in_is_no_reading_of_the_clock(code: str) -> None:
    assert not reads_clock(ast.parse(code))


def test_a_missing_docstring_is_noticed() -> None:
    code = """
class A:
    'A.'
    def documented(self): 'Yes.'
    def b(self): pass
    def _c(self): pass
class D(A):
    'D.'
    def documented(self): pass
    def e(self): pass
    @property
    def field(self) -> int: ...
"""
    assert undocumented(ast.parse(code)) == ["the module", "A.b", "D.e"]
