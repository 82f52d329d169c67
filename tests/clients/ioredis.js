// What a program with ioredis does. Argument: the port.
const assert = require("node:assert");
const { Redis } = require("ioredis");

async function main() {
  const client = new Redis(Number(process.argv[1]), "127.0.0.1");
  await client.flushall();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("k", "v", "EX", 1000, "NX"), "OK");
  assert.equal(await client.set("k", "v", "NX"), null);
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.incrby("n", 5), 5);

  // One pipeline by hand, and one that ioredis makes of concurrent calls.
  const pipeline = client.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.set(`p:${n}`, n).get(`p:${n}`);
  const replies = await pipeline.exec();
  replies.forEach(([error, reply], n) => {
    assert.equal(error, null);
    assert.equal(reply, n % 2 ? String((n - 1) / 2) : "OK");
  });
  const counts = await Promise.all(Array.from({ length: 500 }, () => client.incr("shared")));
  assert.deepEqual(counts, Array.from({ length: 500 }, (_, n) => n + 1));

  const outcomes = await client.multi().set("m", 1).incr("m").hget("m", "f").get("m").exec();
  assert.deepEqual(outcomes.map(([error, reply]) => (error ? "error" : reply)), ["OK", 2, "error", "2"]);

  // Sent by its hash first, and whole when the server does not know it.
  client.defineCommand("move", {
    numberOfKeys: 2,
    lua: "redis.call('SET', KEYS[2], redis.call('GETDEL', KEYS[1])) return redis.call('GET', KEYS[2])",
  });
  assert.equal(await client.move("m", "moved"), "2");
  await client.script("FLUSH");
  assert.equal(await client.move("moved", "m"), "2");

  const subscriber = client.duplicate();
  await subscriber.subscribe("news", "other");
  await subscriber.psubscribe("n*");
  const heard = [];
  const all = new Promise((resolve) => {
    const listen = (message) => {
      heard.push(Number(message));
      if (heard.length === 200) resolve();
    };
    subscriber.on("message", (channel, message) => listen(message));
    subscriber.on("pmessage", (pattern, channel, message) => listen(message));
  });
  for (let n = 0; n < 100; n++) assert.equal(await client.publish("news", n), 2);
  await all;
  assert.deepEqual(heard, Array.from({ length: 200 }, (_, n) => Math.floor(n / 2)));
  subscriber.disconnect();

  const waiter = client.duplicate();
  const popped = waiter.blpop("list", 30);
  await client.rpush("list", "element");
  assert.deepEqual(await popped, ["list", "element"]);
  waiter.disconnect();

  const found = new Set();
  for await (const keys of client.scanStream({ match: "p:*", count: 50 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 1000);
  const large = Buffer.alloc(3_000_000, 7);
  await client.set("large", large);
  assert.ok(large.equals(await client.getBuffer("large")));
  await assert.rejects(client.call("NOSUCH"), /unknown command/);
  await client.quit();
}

main().then(
  () => console.log("done"),
  (failure) => {
    console.log(failure);
    process.exit(1);
  },
);
