"""The script that runs inside the sandbox: it takes a job from standard input, limits itself, and runs the program.

It imports nothing of heedful, which is not there. A job is JSON: `limits`, `program`, `as_main`, `user`, `calls`,
`checks` and `results`. The program runs in a module of its own. Then each of `calls`, an expression, is evaluated and
its value is written, as a literal, to the descriptor `results`; each of `checks`, statements, is run and passes where
it raises nothing. One line of JSON a result: `["call", i, text]`, `["check", i, null]`, or `["failed", i, why]`. What
these calls ought to give never comes in here.
"""

import builtins
import json
import os
import resource

PLAIN = (int, float, complex, bool, str, bytes, type(None), list, tuple, dict, set)


def become(user: int | None) -> None:
    """Be nobody that has any right, where root started this."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def limit(limits: dict[str, int]) -> None:
    """Set the kernel's limits, which cannot be taken back without a capability that is not here."""
    memory = limits["memory_mib"] * 2**20
    for what, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["processor_seconds"]),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, limits["disk_mib"] * 2**20),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
    ):
        resource.setrlimit(what, (amount, amount))


def plain(value: object, depth: int = 0) -> bool:
    """Whether a value is of built-in types alone, all the way down, so that its literal says all of it."""
    if type(value) not in PLAIN or depth > 50:
        return False
    if isinstance(value, dict):
        return all(plain(key, depth + 1) and plain(item, depth + 1) for key, item in value.items())
    if isinstance(value, (list, tuple, set)):
        return all(plain(item, depth + 1) for item in value)
    return True


def main() -> None:
    write, dumps, text_of, compiled = os.write, json.dumps, builtins.repr, builtins.compile
    run, evaluate, say_type = builtins.exec, builtins.eval, type
    with os.fdopen(0, "rb", closefd=False) as given:
        job = json.load(given)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    results = job["results"]
    become(job["user"])
    limit(job["limits"])
    names = {"__name__": "__main__" if job["as_main"] else "answer", "__builtins__": builtins}

    def tell(kind: str, place: int, what: str | None) -> None:
        line = (dumps([kind, place, what]) + "\n").encode()
        while line:
            line = line[write(results, line) :]

    if job["as_main"]:
        run(compiled(job["program"], "answer.py", "exec"), names)
        return
    try:
        run(compiled(job["program"], "answer.py", "exec"), names)
    except BaseException as error:
        tell("failed", -1, say_type(error).__name__ + ": " + str(error)[:500])
        return
    tell("ran", -1, None)
    for kind, listed in (("call", job["calls"]), ("check", job["checks"])):
        for place, code in listed:
            try:
                if kind == "check":
                    run(compiled(code, "test.py", "exec"), names)
                    tell("check", place, None)
                    continue
                value = evaluate(compiled(code, "test.py", "eval"), names)
                if plain(value):
                    tell("call", place, text_of(value))
                else:
                    tell("failed", place, "gave a value of the type " + say_type(value).__name__)
            except BaseException as error:
                tell("failed", place, say_type(error).__name__ + ": " + str(error)[:500])


main()
