import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.desktop import TOOL, policy
from tasks.desktop.desk import Desk
from tasks.sandbox import landlock, seccomp
from tasks.sandbox.remove import remove_folder
from tests.tasks.command_calls import needs_program, open_desk, run_argv
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import InvalidArguments, OperationFailed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, as the state folder with its keys is one."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "key").write_text("secret-key")
    return folder


@pytest.fixture
def desk(root: Path) -> Desk:
    return open_desk(root)


# -- what works ------------------------------------------------------------------------------------------------


async def test_the_sandbox_in_force_is_in_the_result(desk: Desk) -> None:
    result = await run_argv(desk, "true")

    assert (result.sandbox.profile, result.sandbox.network) == ("landlock", "none")
    assert result.sandbox.landlock_abi == landlock.abi() >= 6
    assert (result.sandbox.reads, result.sandbox.writes) == (("system",), ("root", "TMPDIR"))
    assert (result.sandbox.processes, result.sandbox.memory_bytes) == (256, 4 * 1024**3)


async def test_shell_tools_read_and_write_in_the_root(desk: Desk, root: Path) -> None:
    script = "mkdir -p a/b && echo one >a/x && cp a/x a/b/y && mv a/x a/b/z && ln -s b a/l && ls a/l && rm -r a/b"

    result = await run_argv(desk, "sh", "-c", script)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "y\nz\n", "")
    assert sorted(os.listdir(root / "a")) == ["l"]


async def test_git_works_in_a_workspace_within_somebody_elses_repository(tmp_path: Path) -> None:
    git = needs_program("git")
    subprocess.run([git, "init", "-q", tmp_path], check=True)
    root = tmp_path / "workspace"
    root.mkdir()
    who = "-c user.name=a -c user.email=a@example.com"
    script = (
        f"git status; git init -q p && cd p && echo 1 >f && git add f && git {who} commit -qm m && git log --oneline"
    )

    result = await run_argv(open_desk(root), "sh", "-c", script)

    assert "not a git repository" in result.stderr
    assert (result.exit_code, result.stdout.partition(" ")[2]) == (0, "m\n")


async def test_make_and_the_compiler_work(desk: Desk, root: Path) -> None:
    needs_program("make")
    needs_program("gcc")
    (root / "Makefile").write_text("run: hello\n\t./hello\nhello: hello.c\n\tgcc -o hello hello.c\n")
    (root / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')

    result = await run_argv(desk, "make", "-s", "run")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


async def test_python_works_with_threads_and_subprocesses(desk: Desk) -> None:
    needs_program("python3")
    script = (
        "import subprocess, tempfile, threading, pathlib, os, pwd\n"
        "threads = [threading.Thread(target=subprocess.run, args=(['true'],)) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "with tempfile.NamedTemporaryFile() as file: file.write(b'x')\n"
        "print(subprocess.check_output(['sh', '-c', 'echo out'], text=True), pwd.getpwuid(os.getuid()).pw_uid >= 0)\n"
    )

    result = await run_argv(desk, "python3", "-c", script)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n True\n", "")


async def test_the_temporary_folder_is_the_commands_own_and_is_removed(desk: Desk, root: Path) -> None:
    script = 'echo "$TMPDIR"; cd "$TMPDIR"; mkdir -p a/b/c; echo x >a/b/c/f; ln -s "$HOME" link; chmod 000 a/b/c a/b a'
    (root / "kept").write_text("x")

    first = (await run_argv(desk, "sh", "-c", script)).stdout.strip()
    second = (await run_argv(desk, "sh", "-c", f'echo "$TMPDIR"; ls {first}')).stdout.strip()

    assert first != second
    assert not os.path.exists(first)
    assert not os.path.exists(second)
    assert (root / "kept").exists()


def test_a_folder_of_any_depth_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    script = "import os\nfor _ in range(1500): os.mkdir('abcdefgh'); os.chdir('abcdefgh')\nopen('file', 'w').close()"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)

    remove_folder(str(folder))
    remove_folder(str(folder))

    assert not folder.exists()


# -- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/root", "/home", "/", "/tmp", "/var/log", "/proc/1/environ", "/proc/1/cmdline", "/sys", ".."],
)
async def test_the_rest_of_the_machine_cannot_be_read(desk: Desk, path: str) -> None:
    result = await run_argv(desk, "sh", "-c", 'if [ -d "$1" ]; then ls -a "$1"; else cat "$1"; fi', "sh", path)

    assert (result.exit_code != 0, result.stdout) == (True, "")
    assert "Permission denied" in result.stderr or "No such file" in result.stderr


async def test_neither_path_nor_link_nor_git_leads_out(desk: Desk, root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(outside / "new")
    script = (
        f"cat {outside}/key; cat link/key; cat ../outside/key; cat /proc/self/root{outside}/key; cp {outside}/key .; "
        f"echo x >{outside}/made; echo x >>link/key; echo x >dangling; rm {outside}/key; mv {outside}/key .; "
        f"ln {outside}/key hard; truncate -s 0 {outside}/key; git init -q; git log --output={outside}/made"
    )

    result = await run_argv(desk, "sh", "-c", script)

    assert "secret" not in result.stdout + result.stderr
    assert os.listdir(outside) == ["key"]
    assert (outside / "key").read_text() == "secret-key"
    assert not (root / "hard").exists()


async def test_another_tenants_root_cannot_be_read(tmp_path: Path) -> None:
    roots = {"alice": tmp_path / "alice", "bob": tmp_path / "bob"}
    for folder in roots.values():
        folder.mkdir()
    (roots["bob"] / "note").write_text("bobs")

    result = await run_argv(open_desk(roots), "cat", str(roots["bob"] / "note"), run=FakeRun(tenant="alice"))

    assert (result.exit_code, result.stdout) == (1, "")


async def test_a_program_outside_cannot_be_executed_unless_the_operator_adds_its_folder(
    root: Path, outside: Path
) -> None:
    shutil.copy("/bin/true", outside / "own")
    argv = str(outside / "own")

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), argv)
    allowed = await run_argv(open_desk(root, sandbox_read=(str(outside),)), argv)

    assert (caught.value.failure_code, caught.value.before_effect) == ("not_found", True)
    assert "sandbox_read" in caught.value.message
    assert allowed.exit_code == 0
    assert allowed.sandbox.reads == ("system", str(outside))


async def test_the_path_has_only_folders_that_the_sandbox_allows(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("/bin/true", outside / "own")
    monkeypatch.setenv("PATH", f"{outside}:/usr/bin:relative")

    found = await run_argv(open_desk(root, sandbox_read=(str(outside),)), "own")
    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "own")
    path = (await run_argv(open_desk(root), "printenv", "PATH")).stdout

    assert found.exit_code == 0
    assert caught.value.failure_code == "not_found"
    assert str(outside) not in path
    assert "relative" not in path


async def test_what_the_operator_lets_be_written_can_be_written(root: Path, outside: Path) -> None:
    result = await run_argv(open_desk(root, sandbox_write=(str(outside),)), "touch", str(outside / "made"))

    assert result.exit_code == 0
    assert (outside / "made").exists()


# -- no less than was configured ---------------------------------------------------------------------------------


async def test_a_sandbox_that_the_machine_cannot_give_is_an_error_before_anything_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(policy.LEAST_ABI, "landlock", 99)
    run = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "touch", "witness", run=run)

    error = caught.value
    assert (error.failure_code, error.before_effect, run.effects_begun) == ("sandbox_unavailable", True, 0)
    assert "needs 99" in error.message
    assert "desktop.sandbox" in error.message
    assert not (root / "witness").exists()


@pytest.mark.parametrize("metadata", ["hidden", "refused"])
@pytest.mark.parametrize("setting", ["sandbox_read", "sandbox_write"])
async def test_a_folder_of_the_settings_that_is_not_there_is_an_error_before_anything_runs(
    root: Path, setting: str, metadata: str
) -> None:
    desk = open_desk(root, sandbox_metadata=metadata, **{setting: ("/no/such/folder",)})

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "touch", "witness")

    assert caught.value.failure_code == "sandbox_unavailable"
    assert "(/no/such/folder: No such file or directory)" in caught.value.message
    assert caught.value.message.endswith(f"the operator can set desktop.{setting}")
    assert not (root / "witness").exists()


async def test_without_a_sandbox_the_result_says_so(root: Path, outside: Path) -> None:
    result = await run_argv(open_desk(root, sandbox="none"), "cat", str(outside / "key"))

    assert result.stdout == "secret-key"
    assert (result.sandbox.profile, result.sandbox.landlock_abi, result.sandbox.network) == ("none", 0, "all")
    assert result.sandbox.reads == result.sandbox.writes == ("all",)


@pytest.mark.parametrize("name", ["sandbox", "sandbox_network", "command_processes", "limits", "root"])
def test_a_call_cannot_change_its_limits(name: str) -> None:
    for operation in ("run_command", "process_start"):
        with pytest.raises(InvalidArguments):
            TOOL.operations[operation].convert({"argv": ["true"], name: "none"})


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_of_system_calls_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).exists():
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail(f"needs {header} (Debian: linux-libc-dev)")
        pytest.skip(f"needs {header} (Debian: linux-libc-dev)")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    numbers = {name: int(number) for name, number in pattern.findall(Path(header).read_text())}

    known = {name: number for name, number in seccomp.NUMBERS[machine].items() if name in numbers}

    assert {name: numbers[name] for name in known} == known
    assert seccomp.NUMBERS[machine].keys() - known.keys() <= {
        *("fchmodat2", "setxattrat", "removexattrat", "file_setattr")  # younger than some headers
    }
