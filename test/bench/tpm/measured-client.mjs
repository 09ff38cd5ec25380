import { randomBytes } from 'node:crypto';
import { once } from 'node:events';

/**
 * One process's measurement: `load` imports the client and gives what `open` makes a device of. RSS is read after a
 * garbage collection and compared with that of the process before anything was loaded.
 */
export async function measureClient(load, open) {
  // What every contestant and the measuring itself use shall not count.
  randomBytes(1);
  const bareMiB = rssMiB();
  const start = performance.now();
  const loaded = await load();
  const loadMs = performance.now() - start;
  const loadedMiB = rssMiB() - bareMiB;
  const device = await open(loaded, process.argv[2]);
  process.send(await device.keys());
  const [{ blobs, signatures }] = await once(process, 'message');
  const text = randomBytes(100);
  const challengeMs = [];
  const hubKeyMs = [];
  let usedMiB;
  for (const blob of blobs.map((text) => Buffer.from(text, 'base64'))) {
    challengeMs.push(await timed(() => device.activate(blob)));
    hubKeyMs.push(await timed(() => device.keep(blob)));
    if (usedMiB !== undefined) continue;
    await device.sign(text);
    usedMiB = rssMiB() - bareMiB;
  }
  const signatureMs = [];
  let signature;
  for (let count = 0; count < signatures; count += 1) {
    signatureMs.push(
      await timed(async () => {
        signature = await device.sign(text);
      }),
    );
  }
  process.send({
    loadMs,
    loadedMiB,
    usedMiB,
    addedMiB: rssMiB() - bareMiB,
    challengeMs,
    hubKeyMs,
    signatureMs,
    signature: Buffer.from(signature).toString('hex'),
    text: text.toString('base64'),
  });
}

function rssMiB() {
  globalThis.gc();
  return process.memoryUsage.rss() / 2 ** 20;
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
