"""The first schema: the record, who may see it, and the control plane."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _access_and_journal()
    _tasks()
    _series_and_files()
    _fleet()


def _access_and_journal() -> None:
    op.create_table(
        "server",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_server"),
        comment="facts of this server: its id, what it was created with, launch freeze",
    )
    op.create_table(
        "workspaces",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workspaces"),
    )
    op.create_table(
        "tokens",
        sa.Column(
            "hash",
            sa.String(length=64),
            nullable=False,
            comment="sha256 hex of the secret; the secret is never kept",
        ),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="user | agent | task"),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column(
            "role",
            sa.String(length=32),
            nullable=False,
            comment="admin | member | viewer; agents and tasks: their kind",
        ),
        sa.Column(
            "instance_id",
            sa.String(length=64),
            nullable=True,
            comment="agent credentials reach this instance only",
        ),
        sa.Column("task_id", BIG_ID, nullable=True, comment="task credentials reach this task only"),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name="pk_tokens"),
    )
    op.create_index("ix_tokens_instance_id", "tokens", ["instance_id"], unique=False)
    op.create_index("ix_tokens_task_id", "tokens", ["task_id"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True, comment="None while the first request is under way"),
        sa.Column("response", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column(
            "kind",
            sa.String(length=64),
            nullable=False,
            comment="task.queued, instance.launched, pool.protected, ...",
        ),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("task_id", BIG_ID, nullable=True),
        sa.Column("instance_id", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        comment="written in the transaction of the change it tells of; the outbox behind SSE",
    )
    op.create_index("ix_events_instance_id", "events", ["instance_id", "id"], unique=False)
    op.create_index("ix_events_task_id", "events", ["task_id", "id"], unique=False)


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column(
            "uid",
            sa.String(length=64),
            nullable=False,
            comment="client-made, so that a repeated create is the same task",
        ),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column(
            "queue",
            sa.String(length=64),
            nullable=True,
            comment="None: recorded only, never queued (a run outside the fleet)",
        ),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False, comment="task.yaml as validated"),
        sa.Column("code_digest", sa.String(length=64), nullable=True, comment="snapshot of the code, a blob"),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("parent_id", BIG_ID, nullable=True),
        sa.Column("cache_key", sa.String(length=64), nullable=True),
        sa.Column("inputs", sa.JSON(), nullable=True),
        sa.Column("outputs", sa.JSON(), nullable=True),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="+1 on each change; the ETag"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=True, comment="start of the present wait"),
        sa.Column("not_before", sa.Double(), nullable=True, comment="back-off after a failed attempt"),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False, comment="fencing token, +1 at each claim"),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="counted at claim"),
        sa.Column("instance_id", sa.String(length=64), nullable=True, comment="who holds the lease"),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column(
            "stop_reason",
            sa.String(length=64),
            nullable=True,
            comment="set by stop or preemption; handed to the agent at its next contact",
        ),
        sa.Column("preempted", sa.Integer(), nullable=False),
        sa.Column("infra", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("requeues", sa.Integer(), nullable=False, comment="free ones, asked for by its exit code"),
        sa.Column(
            "attempt_base", sa.Integer(), nullable=False, comment="attempts before a person requeued it"
        ),
        sa.Column(
            "need", sa.Text(), nullable=False, comment="canonical resources, compared at claim; '' = any"
        ),
        sa.Column(
            "placed_at",
            sa.Double(),
            nullable=True,
            comment="its place among equals of a queue; kept through automatic retries",
        ),
        sa.Column(
            "queue_until", sa.Double(), nullable=True, comment="end of timeout.queue of the present wait"
        ),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_reason", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("workspace", "uid", name="uq_tasks_workspace_uid"),
    )
    op.create_index(
        "ix_tasks_claim",
        "tasks",
        ["state", "queue", sa.literal_column("priority DESC"), "placed_at", "id"],
        unique=False,
    )
    op.create_index("ix_tasks_code_digest", "tasks", ["code_digest"], unique=False)
    op.create_index(
        "ix_tasks_instance_id",
        "tasks",
        ["instance_id"],
        unique=False,
        sqlite_where=sa.text("instance_id IS NOT NULL"),
        postgresql_where=sa.text("instance_id IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_lease_until",
        "tasks",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_queue_until",
        "tasks",
        ["queue_until"],
        unique=False,
        sqlite_where=sa.text("queue_until IS NOT NULL"),
        postgresql_where=sa.text("queue_until IS NOT NULL"),
    )
    op.create_index("ix_tasks_workspace_id", "tasks", ["workspace", "id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.String(length=64), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column(
            "outcome",
            sa.String(length=32),
            nullable=True,
            comment="completed | failed | preempted | infra | stopped | requeued | lost",
        ),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_reason", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "lost_seconds",
            sa.Double(),
            nullable=True,
            comment="work since the last checkpoint that has to be done again",
        ),
        sa.Column("usd_per_hour", sa.Double(), nullable=True, comment="price of the instance when claimed"),
        sa.Column(
            "environment", sa.JSON(), nullable=True, comment="captured by the SDK: git, packages, host, argv"
        ),
        sa.Column("share", sa.Double(), nullable=False, comment="part of the instance this attempt held"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_attempts_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_attempts"),
    )
    op.create_index("ix_attempts_instance_id", "attempts", ["instance_id"], unique=False)
    op.create_table(
        "params",
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_params_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "key", name="pk_params"),
    )


def _series_and_files() -> None:
    op.create_table(
        "metrics",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("context", sa.String(length=256), nullable=False, comment="canonical JSON; '' = none"),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.Double(), nullable=True, comment="NaN and infinities: see *_text"),
        sa.Column(
            "last_text",
            sa.String(length=8),
            nullable=True,
            comment="nan | inf | -inf where a float column cannot hold it",
        ),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("last_attempt", sa.Integer(), nullable=False),
        sa.Column("min", sa.Double(), nullable=True),
        sa.Column("max", sa.Double(), nullable=True),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_metrics_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
        sa.UniqueConstraint("task_id", "key", "context", name="uq_metrics_task_id_key_context"),
    )
    op.create_table(
        "points",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("metric_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True, comment="None: see value_text"),
        sa.Column("value_text", sa.String(length=8), nullable=True, comment="nan | inf | -inf"),
        sa.ForeignKeyConstraint(["metric_id"], ["metrics.id"], name="fk_points_metric_id_metrics"),
        sa.PrimaryKeyConstraint("id", name="pk_points"),
    )
    op.create_index("ix_points_metric_id", "points", ["metric_id", "step"], unique=False)
    op.create_table(
        "log_chunks",
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "offset", sa.BigInteger(), nullable=False, comment="first byte, counted from the attempt's start"
        ),
        sa.Column("length", sa.Integer(), nullable=False, comment="bytes before compression"),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="zlib"),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_log_chunks_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "attempt", "offset", name="pk_log_chunks"),
    )
    op.create_table(
        "journal_marks",
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("segment", sa.String(length=64), nullable=False),
        sa.Column(
            "offset",
            sa.BigInteger(),
            nullable=False,
            comment="bytes of the segment that are durably taken in",
        ),
        sa.Column(
            "broken", sa.Integer(), nullable=False, comment="records skipped because their checksum failed"
        ),
        sa.Column(
            "skipped",
            sa.Integer(),
            nullable=False,
            comment="whole records of kinds this server does not know",
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_journal_marks_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "attempt", "rank", "segment", name="pk_journal_marks"),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), nullable=False, comment="sha256 hex"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("task_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False, comment="file | checkpoint | ..."),
        sa.Column("version", sa.Integer(), nullable=False, comment="1, 2, ... per (task, name)"),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True, comment="of a checkpoint"),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_artifacts_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.UniqueConstraint(
            "workspace", "task_id", "name", "version", name="uq_artifacts_workspace_task_id_name_version"
        ),
    )
    op.create_index("ix_artifacts_digest", "artifacts", ["digest"], unique=False)
    op.create_index("ix_artifacts_task_id", "artifacts", ["task_id", "type", "id"], unique=False)


def _fleet() -> None:
    op.create_table(
        "instances",
        sa.Column(
            "id",
            sa.String(length=64),
            nullable=False,
            comment="also the launch token and TAG_INTENT: [a-z0-9-], <= 63",
        ),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("instance_type", sa.String(length=64), nullable=False),
        sa.Column("market", sa.String(length=16), nullable=False),
        sa.Column(
            "offer",
            sa.JSON(),
            nullable=False,
            comment="the whole offer as it was when the intent was written",
        ),
        sa.Column(
            "usd_per_hour", sa.Double(), nullable=False, comment="worst case, reserved before the call"
        ),
        sa.Column(
            "request",
            sa.JSON(),
            nullable=False,
            comment="launch parameters, sent byte-identical at each retry",
        ),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="the leader that wrote the intent"),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column(
            "reason",
            sa.String(length=64),
            nullable=True,
            comment="why it is draining, terminating or terminated: a stable code",
        ),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "ref",
            sa.String(length=256),
            nullable=True,
            comment="the cloud's own id, recorded before anything else of an answer",
        ),
        sa.Column("address", sa.String(length=256), nullable=True),
        sa.Column(
            "identity",
            sa.String(length=256),
            nullable=True,
            comment="what its signed identity bears beside the ref: account, id or vmId",
        ),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("launch_calls", sa.Integer(), nullable=False),
        sa.Column(
            "next_call_at", sa.Double(), nullable=True, comment="back-off of launch or terminate retries"
        ),
        sa.Column(
            "launched_at", sa.Double(), nullable=True, comment="the cloud accepted; billing may have begun"
        ),
        sa.Column("joined_at", sa.Double(), nullable=True),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("idle_since", sa.Double(), nullable=True, comment="None while it holds a lease"),
        sa.Column("drain_at", sa.Double(), nullable=True),
        sa.Column("terminate_asked_at", sa.Double(), nullable=True, comment="first time"),
        sa.Column("terminate_calls", sa.Integer(), nullable=False),
        sa.Column(
            "terminate_accepted_at",
            sa.Double(),
            nullable=True,
            comment="the cloud took our request; not yet proof of the end",
        ),
        sa.Column(
            "not_found_at",
            sa.Double(),
            nullable=True,
            comment="terminate said it knows no such ref; a later listing must confirm",
        ),
        sa.Column(
            "terminate_alerted_at",
            sa.Double(),
            nullable=True,
            comment="when people were told that it can't be ended; once",
        ),
        sa.Column("terminated_at", sa.Double(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=True, comment="last time its cloud listed it"),
        sa.Column("missing_since", sa.Double(), nullable=True, comment="first successful listing without it"),
        sa.Column("contact_at", sa.Double(), nullable=True, comment="last word of its agent"),
        sa.Column(
            "join_hash", sa.String(length=64), nullable=True, comment="sha256 of the single-use join token"
        ),
        sa.Column("join_expires_at", sa.Double(), nullable=True),
        sa.Column("join_burned_at", sa.Double(), nullable=True),
        sa.Column(
            "inventory",
            sa.JSON(),
            nullable=True,
            comment="what the agent found: cpus, memory, gpus, disk, python, versions",
        ),
        sa.Column(
            "counted_at",
            sa.Double(),
            nullable=True,
            comment="when its failed boot was counted against its pool and offering",
        ),
        sa.Column(
            "preempt_at",
            sa.Double(),
            nullable=True,
            comment="when the cloud said that it takes the machine back",
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
        sa.UniqueConstraint("provider", "ref", name="uq_instances_provider_ref"),
    )
    op.create_index("ix_instances_state", "instances", ["state", "provider"], unique=False)
    op.create_index("ix_instances_workspace_id", "instances", ["workspace", "id"], unique=False)
    op.create_table(
        "offer_health",
        sa.Column(
            "scope_key",
            sa.String(length=256),
            nullable=False,
            comment="provider/region/zone/type/market, '*' = any",
        ),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("budget", sa.Integer(), nullable=False),
        sa.Column("blocked_until", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("scope_key", name="pk_offer_health"),
    )
    op.create_table(
        "pool_state",
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("bootstrap_failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("protected_since", sa.Double(), nullable=True),
        sa.Column("protected_reason", sa.Text(), nullable=True),
        sa.Column("rearmed_at", sa.Double(), nullable=True, comment="failures before it do not count"),
        sa.PrimaryKeyConstraint("workspace", "pool", name="pk_pool_state"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=16), nullable=False, comment="task | instance | pool | offer"),
        sa.Column("subject_id", sa.String(length=256), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("rejected", sa.JSON(), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False, comment="ticks in a row with the same code"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        comment="a row a change of mind, not a row a tick; pruned by age",
    )
    op.create_index("ix_decisions_last_at", "decisions", ["last_at"], unique=False)
    op.create_index("ix_decisions_subject", "decisions", ["subject", "subject_id", "id"], unique=False)
    op.create_table(
        "offers",
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("offer", sa.JSON(), nullable=False),
        sa.Column("refreshed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_offers"),
        comment="last known catalogue, so that a restart can plan before the clouds answered",
    )
    op.create_table(
        "cron_slots",
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False, comment="position under the pool's `warm`"),
        sa.Column("fired_slot", sa.Double(), nullable=False, comment="the start that fired last"),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("min", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "pool", "window", name="pk_cron_slots"),
    )
    op.create_table(
        "leader",
        sa.Column("key", sa.String(length=16), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_leader"),
    )
