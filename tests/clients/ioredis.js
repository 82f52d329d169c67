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
