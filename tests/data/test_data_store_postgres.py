"""What is true of PostgreSQL, beyond what every store must do."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import polars as pl
import pytest
from support.datasets import HERE, make_dataset
from support.servers import free_port
from support.waiting import let_pass

from algo_research.core.errors import AlgoError, DataError, FatalError, InputError, RetryableError
from algo_research.core.secrets import redact
from algo_research.data.market.bars import resample_bars
from algo_research.data.stores import postgres
from algo_research.data.stores.cache import MemoryCache
from algo_research.data.stores.postgres import PostgresStore


def execute(url: str, *statements: str) -> list:
    """As an administrator would, outside of any store; the rows of the last statement."""
    import adbc_driver_postgresql.dbapi as driver

    with driver.connect(url.partition("?")[0], autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})  # which takes no `explain`
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def schema_of(url: str) -> str:
    return url.partition("?schema=")[2]


@pytest.fixture
def store(postgres_url):
    return PostgresStore(postgres_url)


@pytest.fixture
def user(postgres_url):
    """A user who may log in and read the public catalogue, and nothing else: name, password, address."""
    parts, name = urlsplit(postgres_url), f"reader_{schema_of(postgres_url)}"
    execute(postgres_url, f"create role {name} login password 'a reader''s pass'")
    yield f"postgresql://{name}@{parts.hostname}:{parts.port}{parts.path}?{parts.query}"
    execute(postgres_url, f"drop owned by {name}", f"drop role {name}")


# Getting in


def test_where_the_password_comes_from(postgres_url, user, tmp_path, monkeypatch):
    PostgresStore(postgres_url).write(make_dataset())
    schema, role = schema_of(postgres_url), urlsplit(user).username
    execute(
        postgres_url,
        f"grant usage on schema {schema} to {role}",
        f"grant select on all tables in schema {schema} to {role}",
    )
    (tmp_path / "passfile").write_text(f"127.0.0.1:*:*:{role}:a reader's pass\n")
    (tmp_path / "passfile").chmod(0o600)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/postgres_password").write_text("a reader's pass\n")
    ways = {
        "secret in the environment": ({"ALGO_SECRET_POSTGRES_PASSWORD": "a reader's pass"}, user, "none"),
        "secrets folder": ({}, user, tmp_path / "secrets"),
        "PGPASSWORD": ({"PGPASSWORD": "a reader's pass"}, user, "none"),
        "PGPASSFILE": ({"PGPASSFILE": str(tmp_path / "passfile")}, user, "none"),
        "address": ({}, user.replace("@", ":a%20reader%27s%20pass@", 1), "none"),
    }
    for way, (environment, url, folder) in ways.items():
        with monkeypatch.context() as m:
            for name, value in environment.items():
                m.setenv(name, value)
            store = PostgresStore(url, secrets=folder)
            assert store.read("test/coins/1h").bars.equals(make_dataset().bars), way
            assert "pass" not in repr(store) + repr(store._database) + repr(store._database.address)
    assert redact("a reader's pass") != "a reader's pass"  # whoever logs it all the same, logs a mask


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", f":{password}@" if password else "@", 1)


FAULTS = {
    "wrong password": (lambda u: with_password(u, "notthepassword"), InputError, "secret 'postgres_password'"),
    "no password": (lambda u: with_password(u, ""), InputError, "secret 'postgres_password'"),
    "short wrong password": (lambda u: with_password(u, "xyzzy"), InputError, "secret 'postgres_password'"),
    "unknown user": (lambda u: u.replace("algo:", "nobody:", 1), InputError, "Correct the user"),
    "unknown database": (lambda u: u.replace(f"{urlsplit(u).path}?", "/nowhere?"), InputError, "createdb"),
    "unknown host": (lambda u: u.replace("127.0.0.1", "nohost.invalid"), InputError, "Correct the host"),
    "nobody listens": (
        lambda u: u.replace(str(urlsplit(u).port), str(free_port())),
        RetryableError,
        "Start the server",
    ),
    "no such port": (lambda u: u.replace(str(urlsplit(u).port), "123456"), InputError, "Correct the address"),
    "another kind of server": (lambda u: u.replace("?", "?sslmode=require&"), AlgoError, "SSL"),
    "broken percent code": (lambda u: with_password(u, "p%zzword"), InputError, "secret 'postgres_password'"),
    "unknown option": (lambda u: u + "&colour=red", InputError, "Correct the address"),
    "no database": (lambda u: u.replace(f"{urlsplit(u).path}?", "?"), InputError, "names no database"),
    "a schema by a reserved word": (
        lambda u: u.partition("schema=")[0] + "schema=pg_catalogue",
        AlgoError,
        "says: unacceptable schema name",
    ),
    "no schema": (lambda u: u + ";drop", InputError, "no name for a schema"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_address_says_what_to_do_and_gives_no_password_away(postgres_url, fault, monkeypatch):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    change, kind, remedy = FAULTS[fault]
    password = urlsplit(change(postgres_url)).password
    for call in ("ping", "datasets", "write"):
        with pytest.raises(kind, match=remedy) as raised:
            store = PostgresStore(change(postgres_url))
            getattr(store, call)(*([make_dataset()] if call == "write" else []))
        error = raised.value
        chain = f"{error} {error.__cause__} {error.__context__ if not error.__suppress_context__ else ''}"
        assert not password or password not in chain


def test_missing_rights(postgres_url, user, monkeypatch):
    """Nothing without a grant; reading with one; writing not before the next."""
    monkeypatch.setenv("ALGO_SECRET_POSTGRES_PASSWORD", "a reader's pass")
    stranger, schema, role = PostgresStore(user), schema_of(postgres_url), urlsplit(user).username
    with pytest.raises(InputError, match=r"permission denied for database.*Ask the owner"):
        stranger.ping()
    owner = PostgresStore(postgres_url)
    owner.write(make_dataset())
    before = owner.snapshot("test/coins/1h")
    with pytest.raises(InputError, match=r"permission denied.*Ask the owner"):
        stranger.read("test/coins/1h")
    execute(
        postgres_url,
        f"grant usage on schema {schema} to {role}",
        f"grant select on all tables in schema {schema} to {role}",
    )
    assert stranger.snapshot("test/coins/1h") == before
    for call in (
        lambda: stranger.write(make_dataset(n=80)),
        lambda: stranger.append(make_dataset(n=80)),
        lambda: stranger.retain("test/coins/1h", datetime(2022, 1, 1, tzinfo=UTC)),
    ):
        with pytest.raises(InputError, match=r"permission denied.*Ask the owner"):
            call()
    assert owner.snapshot("test/coins/1h") == before and owner.versions("test/coins/1h") == [0]


def test_without_the_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(InputError, match=r"algo-research\[postgres\]"):
        PostgresStore("postgresql://ann@localhost/market").ping()


# Tables


FOREIGN = {
    "bar": ["create table {0}.bar (id integer)"],
    "view": ["create view {0}.bar_1h as select 1 as x"],
    "version table": ["create table {0}.schema_version (number integer)"],
    "another tool's migrations": [
        "create table {0}.schema_version (version integer)",
        "insert into {0}.schema_version values (1)",
    ],
    "empty version table": ["create table {0}.schema_version (version integer)"],
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_tables_are_left_alone(postgres_url, case):
    schema = schema_of(postgres_url)
    execute(postgres_url, f"create schema {schema}", *(s.format(schema) for s in FOREIGN[case]))
    listing = (
        "select c.relname::text, a.attname::text from pg_class c join pg_attribute a on a.attrelid = c.oid "
        f"where relnamespace = '{schema}'::regnamespace order by 1, 2"
    )
    before = execute(postgres_url, listing)
    for call in (lambda s: s.ping(), lambda s: s.write(make_dataset())):
        with pytest.raises(DataError, match=r"not this store's.*nothing was changed.*\?schema=NAME"):
            call(PostgresStore(postgres_url))
    assert execute(postgres_url, listing) == before


def test_a_schema_of_others_can_be_shared(postgres_url):
    schema = schema_of(postgres_url)
    execute(postgres_url, f"create schema {schema}", f"create table {schema}.orders (id integer)")
    store = PostgresStore(postgres_url)
    store.write(make_dataset())
    assert store.read("test/coins/1h").bars.equals(make_dataset().bars)


def test_a_column_that_is_gone(postgres_url, store):
    store.write(make_dataset())
    execute(postgres_url, f"alter table {schema_of(postgres_url)}.series rename column symbol to name")
    with pytest.raises(DataError, match="not this store's"):
        PostgresStore(postgres_url).datasets()


def test_a_failed_migration_changes_nothing(postgres_url, store, monkeypatch):
    store.write(make_dataset())
    before = store.snapshot("test/coins/1h")
    with monkeypatch.context() as m:
        m.setattr(postgres, "SCHEMA_VERSION", 3)
        m.setitem(
            postgres.MIGRATIONS,
            1,
            lambda hypertable: [
                "alter table dataset add column note text",
                "insert into schema_version (version) values (1)",
            ],
        )
        m.setitem(postgres.MIGRATIONS, 2, lambda hypertable: ["alter table nothing add column note text"])
        with pytest.raises(FatalError, match='relation "nothing" does not exist'):
            PostgresStore(postgres_url).ping()
    assert PostgresStore(postgres_url).snapshot("test/coins/1h") == before
    monkeypatch.setattr(postgres, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(postgres.MIGRATIONS, 1, lambda hypertable: ["alter table dataset add column note text"])
    assert PostgresStore(postgres_url).snapshot("test/coins/1h") == before
    assert execute(
        postgres_url, f"select version, count(*) from {schema_of(postgres_url)}.schema_version group by 1 order by 1"
    ) == [(1, 1), (2, 1)]


def test_an_old_server_is_refused(postgres_url, store, monkeypatch):
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 99)
    with pytest.raises(InputError, match="Allowed are 99 and newer"):
        store.ping()
    assert execute(postgres_url, f"select count(*) from pg_namespace where nspname = '{schema_of(postgres_url)}'") == [
        (0,)
    ]


def test_many_processes_may_open_a_new_store_at_once(postgres_url):
    failures = []

    def first(symbol):
        try:
            PostgresStore(postgres_url).write(make_dataset("1m", 300, every=timedelta(days=9), symbols=(symbol,)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=first, args=(symbol,)) for symbol in "ABCDEF"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store = PostgresStore(postgres_url)
    assert (
        store.read("test/coins/1m").symbols == list("ABCDEF")
        and store.versions("test/coins/1m") == list(range(6))
        and store.verify("test/coins/1m") == []
    )


def test_threads_may_share_a_store(store):
    store.write(dataset := make_dataset("1m", 3000))
    found, start = [], threading.Barrier(4)

    def reader():
        start.wait()
        found.extend(store.read(dataset.id).bars.equals(dataset.bars) for _ in range(10))

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40


def test_the_statements_for_timescaledb():
    """The extension is not to be had here; what would be sent to it is at least complete and in order."""
    statements = postgres._create(True)
    text = " ".join(statements)
    assert "create_hypertable('bar', 'ts'" in text and "partition by" not in text
    assert text.count("timescaledb.continuous") == text.count("add_continuous_aggregate_policy") == 2
    made = [s.split()[2] for s in statements if s.startswith("create table")]
    assert made == [s.split()[2] for s in postgres._create(False) if s.startswith("create table")]
    order = [
        next(i for i, s in enumerate(statements) if s.startswith(start))
        for start in (
            "create table bar ",
            "select create_hypertable",
            "create materialized view bar_1h",
            "create materialized view bar_1d",
        )
    ]
    assert order == sorted(order)


# Partitions, packs, roll-ups


def test_a_partition_a_year(postgres_url, store):
    store.write(make_dataset("1d", 900))
    store.append(make_dataset("1h", 10, start=datetime(1987, 10, 19, tzinfo=UTC)))
    table = f"{schema_of(postgres_url)}.bar"
    partitions = f"select inhrelid::regclass::text from pg_inherits where inhparent = '{table}'::regclass order by 1"
    found = execute(postgres_url, partitions)
    assert [name.rpartition("_")[2] for (name,) in found] == ["1987", "2021", "2022", "2023", "2024"]
    month = f"select * from {table} where series = 1 and ts >= '2022-03-01+00' and ts < '2022-04-01+00'"
    plan = "\n".join(line for (line,) in execute(postgres_url, f"explain {month}"))
    assert "bar_2022" in plan and "bar_2021" not in plan and "Index" in plan


@pytest.mark.slow
def test_packs_say_what_the_rows_say(postgres_url, store, monkeypatch):
    """Whatever mixture of packed and other months a read meets."""
    dataset = make_dataset("1m", 3000, every=timedelta(minutes=90), symbols=("A", "B"))
    monkeypatch.setattr(postgres, "PACK_ROWS", 100)
    store.write(dataset)
    bars = dataset.bars

    def same():
        edges = [
            None,
            bars["ts"][700],
            *(datetime(*moment, tzinfo=UTC) for moment in ((2021, 12, 31, 20), (2022, 1, 1), (2022, 4, 1, 4))),
        ]
        for start in edges:
            for end in edges:
                for symbols in (None, ["B"]):
                    expected = bars.filter(
                        *([pl.col("ts") >= start] if start else []),
                        *([pl.col("ts") < end] if end else []),
                        *([pl.col("symbol") == "B"] if symbols else []),
                    )
                    assert store.read(dataset.id, symbols, start, end).bars.equals(expected)
        assert store.verify(dataset.id) == []

    packs = f"select count(*) from {schema_of(postgres_url)}.pack"
    assert execute(postgres_url, packs) == [(12,)]  # the first and the last month of each have fewer than 100
    same()
    correction = (
        bars.filter(pl.col("symbol") == "A").slice(1200, 5).with_columns(volume=pl.lit(5.0))
    )  # one month of one symbol goes stale
    store.write(replace(dataset, bars=correction))
    bars = pl.concat([bars, correction]).unique(["symbol", "ts"], keep="last").sort("symbol", "ts")
    same()
    assert store.read(dataset.id, version=0).bars.equals(dataset.bars)
    assert store.compact(dataset.id) == 5 and execute(postgres_url, packs) == [(16,)]
    same()
    assert store.read(dataset.id, version=0).bars.equals(dataset.bars)
    store.retain(dataset.id, bars["ts"][1400])
    bars = bars.filter(pl.col("ts") >= bars["ts"][1400])
    same()


def test_what_was_edited_behind_the_store_s_back_is_found(postgres_url, store):
    store.write(make_dataset("1m", 3000))
    schema = schema_of(postgres_url)
    execute(
        postgres_url,
        f"update {schema}.bar set close = low where ts = (select min(ts) + interval '3 minutes' from {schema}.bar)",
    )
    assert store.verify("test/coins/1m") == ["pack: BTC 2021-11"]
    execute(postgres_url, f"delete from {schema}.bar where ts = (select max(ts) from {schema}.bar)")
    assert store.verify("test/coins/1m") == ["version 0: 2999 bars instead of 3000", "pack: BTC 2021-11"]
    execute(postgres_url, f"update {schema}.pack set data = '\\x00'")
    assert store.verify("test/coins/1m") == ["version 0: 2999 bars instead of 3000", "pack: BTC 2021-11"]
    with pytest.raises(DataError, match=r"2021-11 .*is damaged.*delete from"):
        store.read("test/coins/1m")
    execute(postgres_url, f"delete from {schema}.pack")
    assert store.read("test/coins/1m").bars.height == 2999 and store.compact("test/coins/1m") == 2
    assert store.verify("test/coins/1m") == ["version 0: 2999 bars instead of 3000"]


def test_sql_shows_the_same_bars_and_their_roll_ups(postgres_url, store):
    dataset = make_dataset("1m", 3000, symbols=("A", "B"))
    store.write(dataset)
    store.write(
        replace(dataset, bars=dataset.bars[:10].with_columns(volume=pl.lit(None, pl.Float64)))
    )  # no double counting of what was replaced
    schema, bars = schema_of(postgres_url), store.read(dataset.id).bars
    rows = execute(
        postgres_url,
        f"select symbol, ts, open, high, low, close, volume, known_at from {schema}.bars "
        "where venue = 'test' and timeframe = '1m' order by symbol, ts",
    )
    assert rows == bars.rows()
    for name, target in (("bar_1h", "1h"), ("bar_1d", "1d")):
        found = execute(
            postgres_url,
            f"select s.symbol, bucket, open, high, low, close, volume from {schema}.{name} r "
            f"join {schema}.series s on s.id = r.series order by 1, 2",
        )
        whole = resample_bars(bars, "1m", target).drop("known_at")
        found = pl.DataFrame(found, schema=whole.drop("volume").schema | {"volume": pl.Float64}, orient="row").join(
            whole, on=["symbol", "ts"], how="semi"
        )
        assert found.drop("volume").equals(whole.drop("volume"))
        assert ((found["volume"] - whole["volume"]).abs() <= 1e-12 * whole["volume"]).all()


def test_a_cache_is_never_stale(postgres_url):
    cache = MemoryCache(10**8)
    store, other, dataset = PostgresStore(postgres_url, cache), PostgresStore(postgres_url), make_dataset("1m", 3000)
    store.write(dataset)
    for _ in range(2):
        assert store.read(dataset.id).bars.equals(dataset.bars)
    assert (cache.hits, cache.misses) == (1, 1)
    for volume in (1.0, 2.0):
        changed = dataset.bars.with_columns(volume=pl.lit(volume))
        other.write(replace(dataset, bars=changed))
        assert store.read(dataset.id).bars.equals(changed)
        other.compact(dataset.id)
        assert store.read(dataset.id).bars.equals(changed) and store.read(dataset.id).bars.equals(changed)
    assert store.read(dataset.id, version=0).bars.equals(dataset.bars)


@pytest.mark.parametrize(
    "locale",
    ["locale_provider icu icu_locale 'en-US'", "locale_provider icu icu_locale 'sv-SE' encoding 'UTF8'"],
    ids=["en", "sv"],
)
def test_a_database_that_sorts_otherwise(postgres_url, locale):
    """The order of bars is no matter of the server's language."""
    name = f"db_{schema_of(postgres_url)}"
    execute(postgres_url, f"create database {name} template template0 {locale}")
    store = PostgresStore(url := postgres_url.replace(f"{urlsplit(postgres_url).path}?", f"/{name}?"))
    try:
        symbols = ("AB", "A_C", "LINK", "PEPE", "a", "kPEPE", "Ä", "é")
        for timeframe in ("1h", "1m"):
            store.write(dataset := make_dataset(timeframe, 50, symbols=symbols))
            found = store.read(dataset.id)
            assert found.bars.equals(dataset.bars) and found.snapshot().content == dataset.snapshot().content
            assert (
                store.read(dataset.id, ["kPEPE", "PEPE"]).symbols == ["PEPE", "kPEPE"]
                and store.verify(dataset.id) == []
            )
            with pytest.raises(InputError, match="Did you mean 'kPEPE'"):
                store.read(dataset.id, ["kPEPEE"])
        assert execute(url, "select 'kPEPE' < 'PEPE'") == [(True,)]  # otherwise it would not be another order
    finally:
        store.close()
        execute(postgres_url, f"drop database {name} with (force)")


def test_forgetting_versions_deletes_what_only_they_held(postgres_url, store):
    dataset = make_dataset("1m", 200)
    for volume in range(4):
        store.write(replace(dataset, bars=dataset.bars.with_columns(volume=pl.lit(float(volume)))))
    store.retain(dataset.id, dataset.bars["ts"][50])
    states = {v: store.snapshot(dataset.id, v) for v in store.versions(dataset.id)}
    assert store.forget(dataset.id, 3) == 600
    assert store.versions(dataset.id) == [3, 4] and store.history(dataset.id).height == 2
    assert {v: store.snapshot(dataset.id, v) for v in (3, 4)} == {v: states[v] for v in (3, 4)}
    with pytest.raises(DataError, match="Readable versions: 3, 4"):
        store.read(dataset.id, version=2)
    assert store.verify(dataset.id) == []
    assert store.forget(dataset.id, 4) == 50 and execute(
        postgres_url, f"select count(*) from {schema_of(postgres_url)}.past"
    ) == [(0,)]
    with pytest.raises(InputError, match="Allowed are"):
        store.forget(dataset.id, 5)


# Faults while at work


KILLED = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
import polars as pl
from support.datasets import make_dataset
from algo_research.data.stores.postgres import PostgresStore
name, original = sys.argv[3], getattr(PostgresStore, sys.argv[3])
def stop(*arguments, **options):
    if sys.argv[4] == "after": original(*arguments, **options)
    print("here", flush=True)
    signal.pause()
setattr(PostgresStore, name, stop)
dataset = make_dataset("1m", 5000)
PostgresStore(sys.argv[2]).write(replace(dataset, bars=dataset.bars.with_columns(volume=pl.lit(9.0))))
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("step", "when"), [("_copy", "after"), ("_move", "after"), ("_note", "before"), ("_note", "after")]
)
def test_a_writer_killed_in_mid_transaction(postgres_url, store, step, when):
    """After its COPY, after moving what it replaces, before and after its version: nothing remains, nobody waits."""
    store.write(dataset := make_dataset("1m", 4000))
    before = store.snapshot(dataset.id)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, HERE, postgres_url, step, when], stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout.readline() == b"here\n"
        assert store.snapshot(dataset.id) == before  # readers do not wait either
        victim.send_signal(signal.SIGKILL)
    started = time.monotonic()
    assert store.snapshot(dataset.id) == before and store.versions(dataset.id) == [0]
    assert store.write(make_dataset("1m", 5000)) == 1 and time.monotonic() - started < 60
    assert store.verify(dataset.id) == []


@pytest.mark.parametrize("step", ["_copy", "_note_months", "_note"])
@pytest.mark.parametrize("first", [True, False], ids=["first write", "upsert"])
def test_a_writer_interrupted_by_the_keyboard(store, monkeypatch, step, first):
    """The connection goes on, without what was begun."""
    dataset, original = make_dataset("1m", 3000), getattr(PostgresStore, step)
    if not first:
        store.write(replace(dataset, bars=dataset.bars.with_columns(volume=pl.lit(1.0))))
    before = [] if first else store.snapshot(dataset.id)

    def interrupted(*arguments, **options):
        original(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(PostgresStore, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.write(dataset)
    assert before == (store.datasets() if first else store.snapshot(dataset.id))
    assert (
        store.write(dataset) == (0 if first else 1)
        and store.read(dataset.id).bars.equals(dataset.bars)
        and store.verify(dataset.id) == []
    )


def test_a_lost_connection_is_opened_anew(postgres_url, store):
    """A transaction that it cuts is undone and may be tried again; an idle one is not even noticed."""
    store.write(dataset := make_dataset())
    ours = "application_name = 'algo-research' and datname = current_database()"
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where {ours}"
    execute(postgres_url, end)
    with pytest.raises(RetryableError, match="try again"):
        store.read(dataset.id)
    assert store.read(dataset.id).bars.equals(dataset.bars)
    execute(postgres_url, end)
    store._database._used -= 60
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_a_connection_that_was_idle_reads_and_writes_on(store):
    """It is asked whether it still stands, and the question must not begin the transaction."""
    store.write(dataset := make_dataset("1m", 300))
    calls = {
        "read": lambda: store.read(dataset.id).bars.equals(dataset.bars),
        "verify": lambda: store.verify(dataset.id) == [],
        "write": lambda: store.write(dataset) == 0,
        "datasets": lambda: store.datasets() == [dataset.id],
    }
    for call, right in calls.items():
        store._database._used -= 60
        assert right(), call


@pytest.mark.long
@pytest.mark.slow
def test_a_connection_that_was_really_idle_reads_on(store):
    """The same without pretending."""
    store.write(dataset := make_dataset("1m", 300))
    let_pass(5.5)  # the store looks at the machine's clock
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_a_read_while_others_write_is_of_one_version(postgres_url, store):
    """Two states in turn, by another process's connection; every read is one of them."""
    states = [make_dataset("1m", 2000, seed=seed, every=timedelta(hours=1)) for seed in (1, 2)]
    contents = {state.snapshot().content for state in states}
    store.write(states[0])
    stop = threading.Event()

    def writer():
        other = PostgresStore(postgres_url)
        while not stop.is_set():
            for state in states:
                other.write(state, replace=True)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        assert {store.snapshot(states[0].id).content for _ in range(40)} <= contents
    finally:
        stop.set()
        thread.join()


def test_a_read_keeps_what_is_forgotten_meanwhile(postgres_url, store, monkeypatch):
    other, dataset, original = PostgresStore(postgres_url), make_dataset("1m", 300), PostgresStore._read
    store.write(dataset)
    store.write(replace(dataset, bars=dataset.bars.with_columns(volume=pl.lit(1.0))))

    def overtaken(*arguments):
        other.forget(dataset.id, 1)
        return original(*arguments)

    with monkeypatch.context() as m:
        m.setattr(PostgresStore, "_read", overtaken)
        assert store.read(dataset.id, version=0).bars.equals(dataset.bars)
    with pytest.raises(DataError, match="Readable versions: 1"):
        store.read(dataset.id, version=0)


@pytest.mark.process
def test_a_full_disk_changes_nothing(postgres_url, store, tmp_path_factory):
    """The table space of new tables is a file system of a few hundred kilobytes."""
    if os.getuid() != 0 or not (mount := shutil.which("mount")):
        pytest.skip("mounting a small file system needs root")
    folder = f"/tmp/{schema_of(postgres_url)}"
    os.mkdir(folder)
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=600k,uid=postgres,gid=postgres,mode=700", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        os.rmdir(folder)
        pytest.skip(f"a small file system could not be mounted: {done.stderr.strip()}")
    schema = schema_of(postgres_url)
    try:
        store.write(make_dataset("1h", 30))
        before = store.snapshot("test/coins/1h")
        execute(
            postgres_url,
            f"create tablespace {schema} location '{folder}'",
            f"alter table {schema}.bar_2021 set tablespace {schema}",
        )
        with pytest.raises(FatalError, match=r"disk of the database is full.*holds what it held before"):
            store.write(make_dataset("1m", 40_000))
        assert store.snapshot("test/coins/1h") == before and store.datasets() == [make_dataset().id]
        subprocess.run([mount, "-o", "remount,size=20m", folder], check=True)
        assert store.write(make_dataset("1h", 40)) == 1
    finally:
        store.close()
        execute(postgres_url, f"drop schema {schema} cascade", f"drop tablespace if exists {schema}")
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)
