"""Tables of the control plane: instances (each row is its launch intent), health, decisions, cron, leader.

They stand on the record's MetaData, so that one transaction can touch a task and its instance.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, String, Table, Text, UniqueConstraint

from ...tracking.server.database.schema import BigId, metadata

instances = Table(
    "instances",
    metadata,
    Column(
        "id", String(64), primary_key=True, comment="also the launch token and TAG_INTENT: [a-z0-9-], <= 63"
    ),
    Column("workspace", String(64), nullable=False),
    Column("pool", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("region", String(64), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("instance_type", String(64), nullable=False),
    Column("market", String(16), nullable=False),
    Column("offer", JSON, nullable=False, comment="the whole offer as it was when the intent was written"),
    Column("usd_per_hour", Double, nullable=False, comment="worst case, reserved before the call"),
    Column("request", JSON, nullable=False, comment="launch parameters, sent byte-identical at each retry"),
    Column("spec_hash", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False, comment="the leader that wrote the intent"),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), comment="why it is draining, terminating or terminated: a stable code"),
    Column("message", Text),
    Column("ref", String(256), comment="the cloud's own id, recorded before anything else of an answer"),
    Column("address", String(256)),
    Column(
        "identity", String(256), comment="what its signed identity bears beside the ref: account, id or vmId"
    ),
    Column("created_at", Double, nullable=False),
    Column("launch_calls", Integer, nullable=False, default=0),
    Column("next_call_at", Double, comment="back-off of launch or terminate retries"),
    Column("launched_at", Double, comment="the cloud accepted; billing may have begun"),
    Column("joined_at", Double),
    Column("ready_at", Double),
    Column("idle_since", Double, comment="None while it holds a lease"),
    Column("drain_at", Double),
    Column("terminate_asked_at", Double, comment="first time"),
    Column("terminate_calls", Integer, nullable=False, default=0),
    Column("terminate_accepted_at", Double, comment="the cloud took our request; not yet proof of the end"),
    Column(
        "not_found_at", Double, comment="terminate said it knows no such ref; a later listing must confirm"
    ),
    Column("terminate_alerted_at", Double, comment="when people were told that it can't be ended; once"),
    Column("terminated_at", Double),
    Column("seen_at", Double, comment="last time its cloud listed it"),
    Column("missing_since", Double, comment="first successful listing without it"),
    Column("contact_at", Double, comment="last word of its agent"),
    Column("join_hash", String(64), comment="sha256 of the single-use join token"),
    Column("join_expires_at", Double),
    Column("join_burned_at", Double),
    Column("inventory", JSON, comment="what the agent found: cpus, memory, gpus, disk, python, versions"),
    Column("counted_at", Double, comment="when its failed boot was counted against its pool and offering"),
    Column("preempt_at", Double, comment="when the cloud said that it takes the machine back"),
    Column("version", Integer, nullable=False, default=1),
    UniqueConstraint("provider", "ref"),
)
Index("ix_instances_state", instances.c.state, instances.c.provider)
Index("ix_instances_workspace_id", instances.c.workspace, instances.c.id)

offer_health = Table(
    "offer_health",
    metadata,
    Column("scope_key", String(256), primary_key=True, comment="provider/region/zone/type/market, '*' = any"),
    Column("workspace", String(64), nullable=False),
    Column("code", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("failures", Integer, nullable=False, default=0, comment="in a row"),
    Column("budget", Integer, nullable=False, default=1),
    Column("blocked_until", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

pool_state = Table(
    "pool_state",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("pool", String(64), primary_key=True),
    Column("bootstrap_failures", Integer, nullable=False, default=0, comment="in a row"),
    Column("protected_since", Double),
    Column("protected_reason", Text),
    Column("rearmed_at", Double, comment="failures before it do not count"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column("subject", String(16), nullable=False, comment="task | instance | pool | offer"),
    Column("subject_id", String(256), nullable=False),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("next_at", Double),
    Column("rejected", JSON, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("times", Integer, nullable=False, default=1, comment="ticks in a row with the same code"),
    comment="a row a change of mind, not a row a tick; pruned by age",
)
Index("ix_decisions_subject", decisions.c.subject, decisions.c.subject_id, decisions.c.id)
Index("ix_decisions_last_at", decisions.c.last_at)

offers = Table(
    "offers",
    metadata,
    Column("key", String(256), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("offer", JSON, nullable=False),
    Column("refreshed_at", Double, nullable=False),
    comment="last known catalogue, so that a restart can plan before the clouds answered",
)

cron_slots = Table(
    "cron_slots",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("pool", String(64), primary_key=True),
    Column("window", Integer, primary_key=True, comment="position under the pool's `warm`"),
    Column("fired_slot", Double, nullable=False, comment="the start that fired last"),
    Column("until", Double, nullable=False),
    Column("min", Integer, nullable=False),
)

leader = Table(
    "leader",
    metadata,
    Column("key", String(16), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("lease_until", Double, nullable=False),
)
