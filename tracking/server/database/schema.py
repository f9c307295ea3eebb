"""Tables of the record: tasks with their attempts, parameters, series, logs and artifacts, and who may see them.

Every row and every unique key carries a workspace. Times are epoch seconds (float, UTC, server clock).
`metadata` is the one MetaData of the whole database; `fleet/store/schema.py` adds the control plane's tables.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""An id that SQLite hands out by rowid and PostgreSQL by identity."""

server = Table(
    "server",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="facts of this server: its id, what it was created with, launch freeze",
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_at", Double, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column(
        "hash", String(64), primary_key=True, comment="sha256 hex of the secret; the secret is never kept"
    ),
    Column("workspace", String(64), nullable=False),
    Column("kind", String(16), nullable=False, comment="user | agent | task"),
    Column("actor", String(128), nullable=False),
    Column(
        "role", String(32), nullable=False, comment="admin | member | viewer; agents and tasks: their kind"
    ),
    Column("instance_id", String(64), comment="agent credentials reach this instance only"),
    Column("task_id", BigId, comment="task credentials reach this task only"),
    Column("generation", Integer),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)
Index("ix_tokens_instance_id", tokens.c.instance_id)
Index("ix_tokens_task_id", tokens.c.task_id)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column(
        "uid", String(64), nullable=False, comment="client-made, so that a repeated create is the same task"
    ),
    Column("project", String(128), nullable=False),
    Column("name", String(256), nullable=False),
    Column("queue", String(64), comment="None: recorded only, never queued (a run outside the fleet)"),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("spec", JSON, nullable=False, comment="task.yaml as validated"),
    Column("code_digest", String(64), comment="snapshot of the code, a blob"),
    Column("tags", JSON, nullable=False),
    Column("parent_id", BigId),
    Column("cache_key", String(64)),
    Column("inputs", JSON),
    Column("outputs", JSON),
    Column("actor", String(128), nullable=False),
    Column("version", Integer, nullable=False, default=1, comment="+1 on each change; the ETag"),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double, comment="start of the present wait"),
    Column("not_before", Double, comment="back-off after a failed attempt"),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("generation", Integer, nullable=False, default=0, comment="fencing token, +1 at each claim"),
    Column("attempt", Integer, nullable=False, default=0, comment="counted at claim"),
    Column("instance_id", String(64), comment="who holds the lease"),
    Column("lease_until", Double),
    Column(
        "stop_reason",
        String(64),
        comment="set by stop or preemption; handed to the agent at its next contact",
    ),
    Column("preempted", Integer, nullable=False, default=0),
    Column("infra", Integer, nullable=False, default=0),
    Column("errors", Integer, nullable=False, default=0),
    Column("requeues", Integer, nullable=False, default=0, comment="free ones, asked for by its exit code"),
    Column(
        "attempt_base", Integer, nullable=False, default=0, comment="attempts before a person requeued it"
    ),
    Column(
        "need", Text, nullable=False, default="", comment="canonical resources, compared at claim; '' = any"
    ),
    Column("placed_at", Double, comment="its place among equals of a queue; kept through automatic retries"),
    Column("queue_until", Double, comment="end of timeout.queue of the present wait"),
    Column("exit_code", Integer),
    Column("exit_reason", String(64)),
    Column("message", Text),
    UniqueConstraint("workspace", "uid"),
)
Index("ix_tasks_claim", tasks.c.state, tasks.c.queue, tasks.c.priority.desc(), tasks.c.placed_at, tasks.c.id)
Index(
    "ix_tasks_queue_until",
    tasks.c.queue_until,
    sqlite_where=tasks.c.queue_until.is_not(None),
    postgresql_where=tasks.c.queue_until.is_not(None),
)
Index("ix_tasks_code_digest", tasks.c.code_digest)
Index("ix_tasks_workspace_id", tasks.c.workspace, tasks.c.id)
# Only few tasks hold a lease: an index of those alone costs a claim half of what one of all tasks would.
Index(
    "ix_tasks_lease_until",
    tasks.c.lease_until,
    sqlite_where=tasks.c.lease_until.is_not(None),
    postgresql_where=tasks.c.lease_until.is_not(None),
)
Index(
    "ix_tasks_instance_id",
    tasks.c.instance_id,
    sqlite_where=tasks.c.instance_id.is_not(None),
    postgresql_where=tasks.c.instance_id.is_not(None),
)

attempts = Table(
    "attempts",
    metadata,
    Column("task_id", BigId, ForeignKey("tasks.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("workspace", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("instance_id", String(64), nullable=False),
    Column("claimed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column(
        "outcome", String(32), comment="completed | failed | preempted | infra | stopped | requeued | lost"
    ),
    Column("exit_code", Integer),
    Column("exit_reason", String(64)),
    Column("message", Text),
    Column("lost_seconds", Double, comment="work since the last checkpoint that has to be done again"),
    Column("usd_per_hour", Double, comment="price of the instance when claimed"),
    Column("environment", JSON, comment="captured by the SDK: git, packages, host, argv"),
    Column("share", Double, nullable=False, default=1.0, comment="part of the instance this attempt held"),
)
Index("ix_attempts_instance_id", attempts.c.instance_id)

params = Table(
    "params",
    metadata,
    Column("task_id", BigId, ForeignKey("tasks.id"), primary_key=True),
    Column("key", String(512), primary_key=True),
    Column("workspace", String(64), nullable=False),
    Column("value", JSON, nullable=False),
    Column("attempt", Integer, nullable=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column("task_id", BigId, ForeignKey("tasks.id"), nullable=False),
    Column("key", String(512), nullable=False),
    Column("context", String(256), nullable=False, default="", comment="canonical JSON; '' = none"),
    Column("count", BigInteger, nullable=False, default=0),
    Column("last", Double, comment="NaN and infinities: see *_text"),
    Column("last_text", String(8), comment="nan | inf | -inf where a float column cannot hold it"),
    Column("last_step", BigInteger),
    Column("last_attempt", Integer, nullable=False, default=0),
    Column("min", Double),
    Column("max", Double),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("task_id", "key", "context"),
)

points = Table(
    "points",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("metric_id", BigId, ForeignKey("metrics.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("rank", Integer, nullable=False, default=0),
    Column("step", BigInteger, nullable=False),
    Column("time", Double, nullable=False),
    Column("value", Double, comment="None: see value_text"),
    Column("value_text", String(8), comment="nan | inf | -inf"),
)
Index("ix_points_metric_id", points.c.metric_id, points.c.step)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("task_id", BigId, ForeignKey("tasks.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True, comment="first byte, counted from the attempt's start"),
    Column("length", Integer, nullable=False, comment="bytes before compression"),
    Column("data", LargeBinary, nullable=False, comment="zlib"),
    Column("at", Double, nullable=False),
)

journal_marks = Table(
    "journal_marks",
    metadata,
    Column("task_id", BigId, ForeignKey("tasks.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("segment", String(64), primary_key=True),
    Column("offset", BigInteger, nullable=False, comment="bytes of the segment that are durably taken in"),
    Column(
        "broken", Integer, nullable=False, default=0, comment="records skipped because their checksum failed"
    ),
    Column(
        "skipped",
        Integer,
        nullable=False,
        default=0,
        comment="whole records of kinds this server does not know",
    ),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True, comment="sha256 hex"),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column("task_id", BigId, ForeignKey("tasks.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("name", String(512), nullable=False),
    Column("type", String(32), nullable=False, comment="file | checkpoint | ..."),
    Column("version", Integer, nullable=False, comment="1, 2, ... per (task, name)"),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("step", BigInteger, comment="of a checkpoint"),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("workspace", "task_id", "name", "version"),
)
Index("ix_artifacts_digest", artifacts.c.digest)
Index("ix_artifacts_task_id", artifacts.c.task_id, artifacts.c.type, artifacts.c.id)

events = Table(
    "events",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String(64), nullable=False, comment="task.queued, instance.launched, pool.protected, ..."),
    Column("actor", String(128), nullable=False),
    Column("task_id", BigId),
    Column("instance_id", String(64)),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    comment="written in the transaction of the change it tells of; the outbox behind SSE",
)
Index("ix_events_task_id", events.c.task_id, events.c.id)
Index("ix_events_instance_id", events.c.instance_id, events.c.id)

idempotency = Table(
    "idempotency",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer, comment="None while the first request is under way"),
    Column("response", JSON),
    Column("created_at", Double, nullable=False),
)
Index("ix_idempotency_created_at", idempotency.c.created_at)
