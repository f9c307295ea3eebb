"""The agent's protocol over HTTP, with a fake agent."""

from __future__ import annotations

import hashlib
import threading
import time
from functools import partial

import httpx
import pytest
from api.serving import INVENTORY, Served, free, wait_until
from hostler.agent_bootstrap import wire
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.store import instances

ID = "h-aaaaaaaaaaaa"
OTHER = "h-bbbbbbbbbbbb"
RESULT = {"outcome": "completed", "exit_code": 0, "reason": "completed", "message": "", "run_seconds": 1.0}


def test_a_machine_fetches_the_agent_and_joins_once(served: Served) -> None:
    served.launching(ID, "secret")
    with served.client("secret") as machine:
        zipapp = machine.get(wire.ZIPAPP)
        assert zipapp.headers["X-Hostler-Sha256"] == hashlib.sha256(zipapp.content).hexdigest()
        first = machine.post(wire.JOIN, json={"inventory": INVENTORY, "identity": {}})
        assert first.status_code == 200
        assert first.json()["instance_id"] == ID
    with served.client(first.json()["credential"]) as agent, served.client("secret") as machine:
        assert agent.post(wire.HEARTBEAT, json={"held": [], "stats": {}}).status_code == 200
        again = machine.post(wire.JOIN, json={"inventory": INVENTORY, "identity": {}})
        assert (again.status_code, again.json()["code"]) == (409, "TOKEN_USED")
    with served.client() as admin:
        shown = admin.get(f"/api/v1/instances/{ID}").json()
        assert shown["state"] == "ready"
        assert shown["inventory"]["hostname"] == "box"
    with served.client(first.json()["credential"]) as agent:
        assert agent.get(wire.ZIPAPP).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inventory": {}, "identity": {}},
        {"inventory": INVENTORY | {"cpus": "many"}, "identity": {}},
        {"inventory": INVENTORY | {"gpus": [{"uuid": 1}]}, "identity": {}},
    ],
)
def test_a_malformed_join_is_refused_and_does_not_burn_the_token(served: Served, body: object) -> None:
    served.launching(ID, "secret")
    with served.client("secret") as machine:
        assert machine.post(wire.JOIN, json=body).status_code == 422
        assert machine.post(wire.JOIN, json={"inventory": INVENTORY, "identity": {}}).status_code == 200


def test_a_task_submitted_while_an_agent_waits_is_handed_over_at_once(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        replies: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: replies.append(agent.post(wire.LEASE, json=free(8.0))))
        waiting.start()
        wait_until(lambda: served.state.dispatcher.waiting("main") == 1)
        task = served.submit(admin)
        waiting.join(5.0)  # well before the poll's own end: it was woken
        assert replies[0].json()["lease"]["task_id"] == task["id"]


def test_a_wait_without_work_ends_with_nothing(served: Served) -> None:
    with served.joined(ID) as agent:
        assert agent.post(wire.LEASE, json=free(0.05)).json() == {"lease": None, "drain": False}


def test_an_agent_that_hangs_up_while_waiting_takes_no_task_with_it(served: Served) -> None:
    with served.joined(ID) as agent, served.joined(OTHER) as other, served.client() as admin:
        with pytest.raises(httpx.ReadTimeout):
            agent.post(wire.LEASE, json=free(8.0), timeout=0.2)
        wait_until(lambda: served.state.dispatcher.waiting("main") == 0)
        task = served.submit(admin)
        lease = other.post(wire.LEASE, json=free(5.0)).json()["lease"]
        assert lease["task_id"] == task["id"]
        assert lease["generation"] == 1


def test_a_lease_whose_answer_was_lost_is_handed_out_again(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        task = served.submit(admin)
        lost = agent.post(wire.LEASE, json=free()).json()["lease"]
        again = agent.post(wire.LEASE, json=free(held=[])).json()["lease"]
        assert (again["task_id"], again["generation"]) == (task["id"], lost["generation"])


def test_a_result_is_committed_once_and_answered_the_same_again(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        task = served.submit(admin)
        lease = agent.post(wire.LEASE, json=free()).json()["lease"]
        path = f"{wire.PREFIX}/tasks/{task['id']}/{lease['generation']}"
        assert agent.post(f"{path}/started").status_code == 200
        assert admin.get(f"/api/v1/tasks/{task['id']}").json()["state"] == "running"
        assert agent.post(f"{path}/result", json=RESULT).json() == {"state": "completed"}
        assert agent.post(f"{path}/result", json=RESULT).json() == {"state": "completed"}
        stale = agent.post(f"{path}/result", json=RESULT | {"outcome": "failed", "exit_code": 1})
        assert stale.status_code == 409
        assert stale.json()["code"] == "STALE_GENERATION"
        assert agent.post(f"{path}/result", json=RESULT | {"outcome": "odd"}).status_code == 422


def test_what_another_instance_holds_is_stale_for_this_one(served: Served) -> None:
    with served.joined(ID) as holder, served.joined(OTHER) as stranger, served.client() as admin:
        task = served.submit(admin)
        lease = holder.post(wire.LEASE, json=free()).json()["lease"]
        path = f"{wire.PREFIX}/tasks/{task['id']}/{lease['generation']}"
        assert stranger.post(f"{path}/started").status_code == 409
        assert stranger.post(f"{path}/result", json=RESULT).status_code == 409
        held = [{"task_id": task["id"], "generation": lease["generation"]}]
        beat = stranger.post(wire.HEARTBEAT, json={"held": held, "stats": {}}).json()
        assert beat["stale"] == held
        assert holder.post(wire.HEARTBEAT, json={"held": held, "stats": {}}).json()["renewed"] == [task["id"]]


def test_a_drained_instance_is_told_while_it_waits_and_takes_nothing(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        replies: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: replies.append(agent.post(wire.LEASE, json=free(8.0))))
        waiting.start()
        wait_until(lambda: served.state.dispatcher.waiting("main") == 1)
        assert admin.post(f"/api/v1/instances/{ID}/drain").json()["state"] == "draining"
        waiting.join(5.0)
        assert replies[0].json() == {"lease": None, "drain": True}
        served.submit(admin)
        assert agent.post(wire.LEASE, json=free()).json() == {"lease": None, "drain": True}


def test_a_preemption_notice_drains_and_asks_its_tasks_to_stop(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        task = served.submit(admin)
        agent.post(wire.LEASE, json=free())
        reply = agent.post(wire.NOTICE, json={"source": "local", "seconds_left": 20.0}).json()
        assert reply["drain"] is True
        assert [(stop["task_id"], stop["reason"]) for stop in reply["stop"]] == [(task["id"], "preempted")]
        assert admin.get(f"/api/v1/instances/{ID}").json()["state"] == "draining"


def test_an_agent_that_leaves_gives_back_what_it_held(served: Served) -> None:
    with served.joined(ID) as agent, served.client() as admin:
        task = served.submit(admin)
        agent.post(wire.LEASE, json=free())
        assert agent.post(wire.LEAVE, json={}).status_code == 200
        assert admin.get(f"/api/v1/tasks/{task['id']}").json()["state"] == "queued"


def test_a_failed_bootstrap_is_told_with_the_join_token(served: Served) -> None:
    served.launching(ID, "secret")
    with served.client("secret") as machine, served.client() as admin:
        body = {"stage": "download", "message": "no route to host"}
        assert machine.post(wire.FAILED, json=body).status_code == 200
        shown = admin.get(f"/api/v1/instances/{ID}").json()
        assert shown["state"] == "terminating"
        assert "no route to host" in shown["message"]
        assert machine.post(wire.JOIN, json={"inventory": INVENTORY, "identity": {}}).status_code == 409


def test_a_lease_request_with_nan_is_refused(served: Served) -> None:
    with served.joined(ID) as agent:
        content = b'{"wait_seconds": NaN, "cpus_free": 1, "memory_bytes_free": 1, "disk_bytes_free": 1,'
        content += b' "gpus_free": 0, "held": []}'
        assert agent.post(wire.LEASE, content=content).status_code == 422


def test_a_heartbeat_of_a_terminated_instance_tells_it_to_go(served: Served) -> None:
    with served.joined(ID) as agent:
        for to in (InstanceState.TERMINATING, InstanceState.TERMINATED):
            served.database.write(partial(instances.advance, instance_id=ID, to=to, now=time.time()))
        assert agent.post(wire.HEARTBEAT, json={"held": [], "stats": {}}).json()["drain"] is True
        assert agent.post(wire.LEASE, json=free(8.0)).json() == {"lease": None, "drain": True}


def _poll_into(replies: list[dict[str, object]], agent: httpx.Client) -> None:
    replies.append(agent.post(wire.LEASE, json=free(2.0)).json())


def test_many_waiting_agents_are_woken_one_for_each_task(served: Served) -> None:
    agents = [served.joined(f"h-aaaaaaaaaaa{letter}") for letter in "bcdef"]
    replies: list[dict[str, object]] = []
    with served.client() as admin:
        threads = [threading.Thread(target=_poll_into, args=(replies, one)) for one in agents]
        for thread in threads:
            thread.start()
        wait_until(lambda: served.state.dispatcher.waiting("main") == len(agents))
        served.submit(admin)
        served.submit(admin)
        for thread in threads:
            thread.join(8.0)
    for one in agents:
        one.close()
    assert sum(reply["lease"] is not None for reply in replies) == 2
    assert len(replies) == len(agents)
