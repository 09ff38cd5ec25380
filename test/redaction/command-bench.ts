import { onTestFinished } from 'vitest';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { type Ended as CommandEnd, type Running, startCommand } from '../cli/command-process.js';
import {
  type Certified,
  enroll,
  GROUP_MEMBER,
  INDIVIDUAL,
  KEYS,
  makeSecrets,
  privateFile,
  temporaryFolder,
} from './bench.js';
import { type Canaries, derivedKey, dpsToken, hubToken } from './canaries.js';
import { expectNoLeaks, type Outputs } from './channels.js';

/** Processes go by the clock of this machine. */
export const START_MS = Date.now();

export interface Ended extends CommandEnd {
  readonly outputs: Outputs;
}

/** The command in a process of its own, with all that it writes. */
export function start(...given: Parameters<typeof startCommand>): Omit<Running, 'ended'> & { ended: Promise<Ended> } {
  const running = startCommand(...given);
  const ended = running.ended.then((end): Ended => {
    const outputs: Outputs = new Map([
      ['standard output', end.out],
      ['standard error', end.err],
    ]);
    return { ...end, outputs };
  });
  return { ...running, ended };
}

export interface Scene {
  readonly emulator: Emulator;
  readonly canaries: Canaries;
  readonly certified: Certified;
  readonly folder: string;
  /** The flags of every device. */
  readonly flags: (transport: 'mqtt' | 'https', registrationId?: string) => string[];
  readonly file: (name: string, text: string) => string;
  /** Also for the tokens that were made since the start: their time is the process's own. */
  readonly expectSilence: (...outputs: Outputs[]) => void;
}

export async function stage(options: { retryAfterSeconds?: number } = {}): Promise<Scene> {
  const { certified, authorityPem, canaries } = await makeSecrets(START_MS);
  const log: string[] = [];
  const emulator = await startEmulator({ retryAfterSeconds: 0, ...options }, { log: (line) => log.push(line) });
  onTestFinished(() => emulator.close());
  enroll(emulator, authorityPem);
  const folder = temporaryFolder();
  const file = (name: string, text: string): string => privateFile(folder, name, text);
  const ca = file('ca.pem', emulator.caPem);
  const { idScope, endpoints } = emulator;
  const startMs = Date.now();
  return {
    emulator,
    canaries,
    certified,
    folder,
    file,
    flags: (transport, registrationId = INDIVIDUAL) => [
      'provision',
      ...['--id-scope', idScope, '--transport', transport, '--endpoint', endpoints.dps[transport], '--ca-file', ca],
      ...(registrationId === '' ? [] : ['--registration-id', registrationId]),
    ],
    expectSilence: (...outputs) => {
      const hubName = endpoints.hubs[0]?.hostName ?? '';
      const owners = [
        [KEYS.device, INDIVIDUAL],
        [KEYS.wrong, INDIVIDUAL],
        [derivedKey(KEYS.group, GROUP_MEMBER), GROUP_MEMBER],
      ] as const;
      for (let wallMs = startMs; wallMs <= Date.now() + 1_000; wallMs += 1_000) {
        for (const [key, device] of owners) {
          canaries.addToken('DPS token', dpsToken(key, idScope, device, { wallMs }));
          canaries.addToken('hub token', hubToken(key, hubName, device, { wallMs }));
        }
      }
      expectNoLeaks(canaries, new Map([['emulator log', log.join('\n')]]), ...outputs);
    },
  };
}
