import { EXIT, exitStatusOf } from '../../src/cli/exit-codes.js';
import { describeFailure } from '../../src/cli/failure-report.js';
import type { CliIo, Output } from '../../src/cli/io.js';
import { readOptions } from '../../src/cli/options.js';
import { PROVISION_SPEC } from '../../src/cli/provision-spec.js';
import type { JsonObject } from '../../src/core/twin.js';
import { resolveConfig } from '../../src/emulator/config.js';
import { isDpsError } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { jsonBytes } from './json-mutations.js';
import { mutateText } from './mutations.js';
import { ensure, requirePrintable } from './properties.js';

const NEVER: AbortSignal = new AbortController().signal;

const CONFIG: JsonObject = {
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  symmetricKeyFile: 'dev-1.key',
  endpoint: 'localhost:8883',
  transport: 'https',
  timeout: 600,
  quiet: true,
  caFile: './ca.pem',
};

export const configFile: FuzzTarget = {
  name: 'config file',
  run(random) {
    const bytes = random.note('file', jsonBytes(random, CONFIG));
    return outcomeOf(async () => {
      await readOptions(['--config', '-'], PROVISION_SPEC, ioWith({ stdin: bytes }), NEVER);
    });
  },
};

const ARGUMENTS: readonly string[] = [
  '--id-scope',
  '0ne00111111',
  '--registration-id=dev-1',
  '--registration-id',
  'dev-1',
  '--transport',
  'https',
  '--timeout',
  '60',
  '--timeout=1e3',
  '--json-log',
  '--json-log=true',
  '--quiet',
  '--symmetric-key',
  'c2VjcmV0',
  '--key',
  '-k',
  '--',
  '-',
  '',
];

export const flags: FuzzTarget = {
  name: 'flags',
  run(random) {
    const args = Array.from({ length: random.below(6) }, () => {
      const argument = random.pick(ARGUMENTS);
      // Longer ones come back as they are in the message: a command line is its author's own.
      return random.chance(0.4) ? mutateText(random, argument).slice(0, 200) : argument;
    });
    random.note('args', args);
    const env = random.note('env', randomEnvironment(random));
    return outcomeOf(async () => {
      await readOptions(args, PROVISION_SPEC, ioWith({ env }), NEVER);
    });
  },
};

const EMULATOR_CONFIG: JsonObject = {
  idScope: '0ne00000000',
  hubs: [{ name: 'hub-1', port: 0, allocationWeight: 3, hostName: 'localhost' }],
  enrollments: [{ registrationId: 'dev-1', attestation: { symmetricKey: {} } }],
  enrollmentGroups: [{ enrollmentGroupId: 'g', attestation: { symmetricKey: {} }, allocationPolicy: 'hashed' }],
  ports: { mqtt: 0, https: 0 },
  tls: { names: ['x.example'], maxVersion: 'TLSv1.2' },
  retryAfterSeconds: 3,
  faults: [{ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '0' }, times: 2 }],
};

export const emulatorConfig: FuzzTarget = {
  name: 'emulator config',
  run(random) {
    const bytes = random.note('file', jsonBytes(random, EMULATOR_CONFIG));
    const config = parsed(bytes);
    if (config === undefined) return 'no JSON';
    return outcomeOf(async () => {
      resolveConfig(config, '/nonexistent');
    });
  },
};

/** The parsers of the command line and its files. */
export const CLI_TARGETS: readonly FuzzTarget[] = [configFile, flags, emulatorConfig];

/** Done, or an error that the command line knows: with an exit status of its own, and a report fit for a terminal. */
async function outcomeOf(work: () => Promise<void>): Promise<string> {
  try {
    await work();
    return 'accepted';
  } catch (error) {
    const status = exitStatusOf(error);
    if (status === EXIT.bug) throw error;
    for (const line of describeFailure(error, status).text.split('\n')) requirePrintable(line);
    ensure(status === EXIT.usage || status === EXIT.configuration, `the exit status is 64 or 78, not ${status}`);
    return isDpsError(error) ? error.code : 'usage';
  }
}

function randomEnvironment(random: FuzzRandom): Record<string, string> {
  const names = ['DPS_ID_SCOPE', 'DPS_TIMEOUT', 'DPS_QUIET', 'DPS_TRANSPORT', 'DPS_IDSCOPE', 'OTHER'];
  return Object.fromEntries(
    Array.from({ length: random.below(3) }, () => [
      random.chance(0.2) ? mutateText(random, random.pick(names)).slice(0, 200) : random.pick(names),
      mutateText(random, random.pick(['0ne00111111', '60', 'yes', 'mqtt'])),
    ]),
  );
}

function ioWith({ stdin = new Uint8Array(0), env = {} }: { stdin?: Uint8Array; env?: Record<string, string> }): CliIo {
  const output: Output = { isTerminal: false, columns: 80, failure: undefined, backlogBytes: 0, write: async () => {} };
  return {
    env,
    stdin: { isTerminal: false, read: async (limitBytes) => stdin.subarray(0, limitBytes + 1) },
    stdout: output,
    stderr: output,
    clock: new ManualClock(),
    onHangUp: () => () => undefined,
    onSignal: () => () => {},
    exitNow: () => {},
    end: () => {},
  };
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
