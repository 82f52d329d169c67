"""What a program with redis-py does, in both protocols. Argument: the port."""

import sys
import threading

import redis

port = int(sys.argv[1])

for protocol in (2, 3):
    client = redis.Redis(port=port, protocol=protocol, decode_responses=True)
    client.flushall()
    assert client.ping()
    assert client.set("k", "v", ex=1000, nx=True)
    assert client.set("k", "v", nx=True) is None
    assert client.get("k") == "v" and 0 < client.ttl("k") <= 1000
    assert client.getdel("k") == "v" and client.get("k") is None
    assert client.incr("n", 5) == 5 and client.incrbyfloat("f", 1.5) == 1.5
    client.mset({f"key:{n}": n for n in range(500)})
    assert client.mget([f"key:{n}" for n in range(500)]) == [str(n) for n in range(500)]
    assert len(set(client.scan_iter("key:*", count=50))) == 500
    assert client.info("server")["redis_version"] == client.info()["redis_version"]
    assert client.config_get("databases") == {"databases": "16"}
    assert client.client_setname("me") and client.client_getname() == "me"
    assert any(entry["name"] == "me" for entry in client.client_list())
    assert client.command_count() > 50

    pipeline = client.pipeline(transaction=False)
    for n in range(1000):
        pipeline.set(f"p:{n}", n)
        pipeline.get(f"p:{n}")
    assert pipeline.execute()[1::2] == [str(n) for n in range(1000)]

    def add():
        for _ in range(200):
            client.incr("shared")

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("shared") == "1000"

    try:
        client.execute_command("NOSUCH")
        raise SystemExit("an unknown command passed")
    except redis.ResponseError:
        pass

print("done")
