// TCP relays in a process of their own, driven over IPC: each adds a round trip time to every connection through it, and
// counts bytes and chunks.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const newCounts = () => ({ bytesUp: 0, bytesDown: 0, chunksUp: 0, chunksDown: 0 });
let counts = newCounts();
let open = 0;
let whenIdle;
const targets = new Map();

const handlers = {
  /** Opens one port per round trip time. */
  async listen({ roundTripsMs }) {
    return Promise.all(roundTripsMs.map(listen));
  },
  async target({ pairs }) {
    for (const [port, target] of pairs) targets.set(port, target);
  },
  async take() {
    if (open > 0) await idle();
    const taken = counts;
    counts = newCounts();
    return taken;
  },
};

process.on('message', async ({ id, call, ...parameters }) => {
  process.send({ id, result: await handlers[call](parameters) });
});
// Whoever started this is gone.
process.on('disconnect', () => process.exit());

function idle() {
  return new Promise((resolve) => {
    whenIdle = resolve;
  });
}

async function listen(roundTripMs) {
  const port = await listenOn('127.0.0.1', 0, roundTripMs);
  // A client may try the other address of `localhost` first.
  await listenOn('::1', port, roundTripMs).catch(() => {});
  return port;
}

async function listenOn(host, wantedPort, roundTripMs) {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    relay(near, targets.get(server.address().port), roundTripMs);
  });
  server.listen(wantedPort, host);
  await once(server, 'listening');
  return server.address().port;
}

function relay(near, target, roundTripMs) {
  open += 1;
  const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  const halfMs = roundTripMs / 2;
  // The near side is connected at once, where a real link would have taken a round trip for that: so nothing that is
  // sent up arrives earlier than it could have there.
  const earliestMs = performance.now() + roundTripMs + halfMs;
  const up = new DelayLine(() => Math.max(performance.now() + halfMs, earliestMs));
  const down = new DelayLine(() => performance.now() + halfMs);
  pipe(near, far, up, (bytes) => {
    counts.bytesUp += bytes;
    counts.chunksUp += 1;
  });
  pipe(far, near, down, (bytes) => {
    counts.bytesDown += bytes;
    counts.chunksDown += 1;
  });
  let closed = 0;
  for (const socket of [near, far]) {
    socket.once('close', () => {
      closed += 1;
      if (closed < 2) return;
      open -= 1;
      if (open === 0) whenIdle?.();
    });
  }
}

function pipe(from, to, line, count) {
  from.on('data', (chunk) => {
    count(chunk.length);
    line.put(() => to.write(chunk));
  });
  from.once('end', () => line.put(() => to.end()));
  from.on('error', () => line.put(() => to.destroy()));
  from.once('close', () => line.put(() => to.end()));
  to.on('error', () => {});
}

/** Does things later, in the order in which they were put in. */
class DelayLine {
  #dueMs;
  #queue = [];

  constructor(dueMs) {
    this.#dueMs = dueMs;
  }

  put(act) {
    const dueMs = this.#dueMs();
    this.#queue.push({ dueMs, act });
    if (this.#queue.length === 1) this.#arm(dueMs);
  }

  #arm(dueMs) {
    setTimeout(() => this.#release(), Math.max(0, dueMs - performance.now()));
  }

  #release() {
    while (this.#queue.length > 0 && this.#queue[0].dueMs <= performance.now()) this.#queue.shift().act();
    if (this.#queue.length > 0) this.#arm(this.#queue[0].dueMs);
  }
}
