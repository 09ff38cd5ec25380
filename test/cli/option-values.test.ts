/** Every flag's wrong value is an error in the use of the command line, whoever finds it. */
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../src/cli/cli-errors.js';
import { main } from '../../src/cli/main.js';
import { blameFlag } from '../../src/cli/option-names.js';
import { configKey, environmentName } from '../../src/cli/option-spec.js';
import { RUN_SPEC } from '../../src/cli/run-spec.js';
import { ConfigurationError, type DpsErrorCode } from '../../src/errors.js';
import { makeTestStore } from '../hsm/key-store/store-bench.js';
import { fakeIo } from './fake-io.js';
import { fileWith } from './temporary-folder.js';

const KEY = Buffer.alloc(32, 9).toString('base64');

/** Nothing is reached there, should it come to that. */
const PLACE = { 'id-scope': '0ne1', endpoint: '127.0.0.1:1', timeout: '5' };

function byKey(): Record<string, string> {
  return { ...PLACE, 'registration-id': 'dev-1', 'symmetric-key-file': fileWith(KEY) };
}

function byTpm(): Record<string, string> {
  return { ...PLACE, tpm: 'tpm2:swtpm:host=127.0.0.1,port=1' };
}

async function byKeyStore(): Promise<Record<string, string>> {
  const { options } = await makeTestStore();
  return { ...PLACE, 'key-store': options.directory, 'key-name': 'a' };
}

interface Ended {
  readonly status: number;
  readonly err: string;
}

type Layer = 'flag' | 'environment' | 'config';

/** Runs `dps-device run`, which takes all that `provision` takes, with one value from that layer. */
async function endWith(
  name: string,
  value: string,
  layer: Layer,
  others: Readonly<Record<string, string>>,
  stdin = '',
): Promise<Ended> {
  const { [name]: _, ...rest } = others;
  const flags = { ...rest, ...(layer === 'flag' ? { [name]: value } : {}) };
  const config = layer === 'config' ? ['--config', fileWith(JSON.stringify({ [configKey(name)]: value }))] : [];
  const io = fakeIo({ env: layer === 'environment' ? { [environmentName(name)]: value } : {}, stdin });
  const args = Object.entries(flags).map(([flag, each]) => `--${flag}=${each}`);
  const status = await main(['run', ...args, ...config], io);
  expect(io.out()).toBe('');
  return { status, err: io.err() };
}

type Others = Record<string, string>;
type Value = readonly [name: string, value: string, others: () => Others | Promise<Others>];

/** Found while the options are read, or by the library, which is none of the user's business. */
const WRONG: readonly Value[] = [
  ['id-scope', 'a b', byKey],
  ['registration-id', 'a b', byKey],
  ['attestation', 'smartcard', byKey],
  ['cert-file', KEY, () => ({ ...PLACE, 'cert-key-file': 'k.pem' })],
  ['chain-file', KEY, () => ({ ...PLACE, 'cert-file': 'c.pem', 'cert-key-file': 'k.pem' })],
  ['key-store', '{"a":1}', () => ({ ...PLACE, 'key-name': 'a' })],
  ['key-name', 'A B', () => ({ ...PLACE, 'key-store': 'keys' })],
  ['key-store-key-file', KEY, byKeyStore],
  ['tpm', 'tpm2:nothing:', byKey],
  ['tpm-template', 'ecc', byTpm],
  ['tpm-handles', 'identity=1', byTpm],
  ['endpoint', 'https://dps.example', byKey],
  ['endpoint', 'dps.example:99999', byKey],
  ['transport', 'mqtt,mqtt', byKey],
  ['transport', 'mqtt', byTpm],
  ['transport', 'amqp,mqtt-ws', byTpm],
  ['hub-transport', 'amqp', byKey],
  ['proxy', 'ftp://proxy.example', byKey],
  ['proxy', 'http://u%zz@proxy.example', byKey],
  ['proxy', 'http://u%3Ax@proxy.example:3128', byKey],
  ['proxy', 'http://256.1.1.1:3128', byKey],
  ['proxy', `socks5://${'u'.repeat(300)}@proxy.example`, byKey],
  ['state', '{"a":1}', byKey],
  ['start-spread', '86401', byKey],
  ['model-id', 'dtmi', byKey],
  ['timeout', '0', byKey],
  ['connect-timeout', '-1', byKey],
  ['request-timeout', 'soon', byKey],
  ['reprovision-method', '', byKey],
  ['reprovision-property', '$version', byKey],
  ['reprovision-property', 'a.b', byKey],
];

describe('a wrong value', () => {
  it.each(WRONG)('of --%s (%s) ends in 64 as a flag', async (name, value, others) => {
    const { status, err } = await endWith(name, value, 'flag', await others());
    expect([status, err]).toEqual([64, expect.stringMatching(/^error: .*\nTry: dps-device run --help\n$/s)]);
    expect(err).toContain(`--${name}`);
  });

  it.each(WRONG.filter(([, value]) => value !== ''))(
    'of --%s (%s) ends in 78 from environment and configuration',
    async (name, value, others) => {
      for (const layer of ['environment', 'config'] as const) {
        // A relative path of a configuration becomes one that is absolute, and no longer looks like anything else.
        if (layer === 'config' && value === KEY) continue;
        const { status, err } = await endWith(name, value, layer, await others());
        expect([layer, status, err]).toEqual([layer, 78, expect.stringContaining('error ERR_DPS_CONFIG_')]);
        expect(err).toContain(layer === 'environment' ? environmentName(name) : `: ${configKey(name)}`);
      }
    },
  );

  it('is told for every flag that has a value, but for files that are read here', () => {
    const names = RUN_SPEC.options
      .filter(({ kind, name }) => kind !== 'switch' && kind !== 'input' && name !== 'config')
      .map(({ name }) => name);
    expect([...new Set(WRONG.map(([name]) => name))].sort()).toEqual([...names].sort());
  });

  it.each(['symmetric-key-file', 'cert-key-file'])('of --%s may be what should be in the file', async (name) => {
    const others = name === 'cert-key-file' ? { ...PLACE, 'cert-file': 'c.pem' } : { ...PLACE, 'registration-id': 'd' };
    const asFlag = await endWith(name, KEY, 'flag', others);
    expect([asFlag.status, asFlag.err]).toEqual([64, expect.stringContaining(`--${name} must be the path of a file`)]);
    expect((await endWith(name, KEY, 'environment', others)).status).toBe(78);
    expect(asFlag.err).not.toContain(KEY);
  });

  it('in a file that a flag names is none of the flag', async () => {
    const long = JSON.stringify('x'.repeat(100 * 1024));
    const { status, err } = await endWith('payload-file', fileWith(long), 'flag', byKey());
    expect([status, err]).toEqual([78, expect.stringContaining('98304 at most')]);
  });

  it.each(['file', 'standard input'])('in the %s of a password is none of the flag', async (from) => {
    const password = 'p'.repeat(70);
    const path = from === 'file' ? fileWith(password) : '-';
    const { status, err } = await endWith('tpm-owner-auth-file', path, 'flag', byTpm(), password);
    expect([status, err]).toEqual([78, expect.stringContaining('has 70 bytes')]);
  });

  it('is the flag’s own also beside a configuration', async () => {
    const config = fileWith('{"transport":"mqtt"}');
    const { status } = await endWith('proxy', 'http://u%zz@proxy.example', 'flag', { ...byKey(), config });
    expect(status).toBe(64);
  });
});

describe('blameFlag', () => {
  const names = new Map([
    ['hsm.link', { label: '--tpm', place: '--tpm', usage: '--tpm LINK', isFlag: true, isContent: false }],
  ]);
  const error = (code: DpsErrorCode, cause?: unknown): ConfigurationError =>
    new ConfigurationError({ code, message: 'Option hsm.link: no.', option: 'hsm.link', cause });

  it('leaves alone what this machine lacks for the value, and what cannot be read', () => {
    for (const each of [
      error('ERR_DPS_CONFIG_UNSUPPORTED', new Error('no koffi')),
      error('ERR_DPS_CONFIG_FILE'),
      new TypeError('x'),
    ]) {
      expect(blameFlag(each, names)).toBe(each);
    }
    const blamed = blameFlag(error('ERR_DPS_CONFIG_OPTION', new Error('BAD_VALUE')), names);
    expect([blamed instanceof UsageError, blamed.message]).toEqual([true, '--tpm: no.']);
  });
});
