// The emulator in a process of its own, so that it can be killed; driven over IPC: any method of its controls by name.
import { startEmulator } from 'dps-device/emulator';

let emulator;

const targets = {
  emulator: () => emulator,
  hub: (name) => emulator.hub(name),
  trace: () => emulator.trace,
};

const calls = {
  async start(config) {
    emulator = await startEmulator(config);
    return { idScope: emulator.idScope, ca: emulator.caPem, endpoints: emulator.endpoints };
  },
  close: () => emulator.close(),
  /** Until taken back, nothing or something else happens at a step. */
  fault: (fault) => void emulator.faults.add(fault),
  clearFaults: () => emulator.faults.clear(),
};

process.on('message', async ({ id, target, of, method, args }) => {
  try {
    const found = target === undefined ? calls : targets[target](of);
    process.send({ id, result: await found[method](...args) });
  } catch (error) {
    process.send({ id, error: error.message });
  }
});
// Whoever started this is gone.
process.on('disconnect', () => process.exit());
