// A device: the built package's run() in a process of its own, told what to do, and telling what happens, over IPC. Its
// clock runs faster than the world's: monotonic time passes `speed` times as fast, so that half an hour of waiting is half
// a minute, or a second. Wall time is the machine's, unless it is set.
import { run } from 'dps-device';

let running;
let wallOffsetMs = 0;

const calls = {
  start({ options, speed, wallMs, draw }) {
    calls.setWall({ wallMs });
    const clock = {
      monotonicMs: () => performance.now() * speed,
      wallMs: () => Date.now() + wallOffsetMs,
      after(delayMs, fn) {
        const timer = setTimeout(fn, Math.ceil(delayMs / speed));
        return () => clearTimeout(timer);
      },
    };
    const startedMs = performance.now();
    running = run({ ...options, clock, random: () => draw });
    void tell(startedMs);
  },
  /** As by NTP; undefined: right. */
  setWall({ wallMs }) {
    wallOffsetMs = wallMs === undefined ? 0 : wallMs - Date.now();
  },
  reprovision: () => running.reprovision(),
  telemetry: ({ body }) => running.session.sendTelemetry({ body }),
  twin: () => running.session.twin,
  async close() {
    await running.close();
    // With nothing left that keeps it alive, the process ends by itself; the channel would keep it.
    process.disconnect();
  },
};

async function tell(startedMs) {
  for await (const event of running.events) {
    process.send({ event, atMs: performance.now() - startedMs });
  }
  const error = await running.closed;
  if (process.connected) process.send({ closed: error?.code ?? null });
  if (error !== undefined) {
    process.exitCode = 1;
    process.disconnect();
  }
}

process.on('message', async ({ id, call, argument }) => {
  try {
    const result = await calls[call](argument ?? {});
    if (process.connected) process.send({ id, result });
  } catch (error) {
    process.send({ id, error: error.message });
  }
});
// A boot script would stop it so.
process.on('SIGTERM', () => calls.close());
