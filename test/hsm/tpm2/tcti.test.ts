import { describe, expect, it } from 'vitest';
import { loadKoffi } from '../../../hsm/tpm2/links/koffi.js';
import { loadTctiLibrary, TctiFailure, type TctiLibrary } from '../../../hsm/tpm2/links/tcti-library.js';
import { TctiLink } from '../../../hsm/tpm2/links/tcti-link.js';
import type { Clock } from '../../../src/core/clock.js';
import type { DpsError } from '../../../src/errors.js';
import { systemClock } from '../../../src/system-clock.js';
import { describeTpmLinkContract } from '../../contracts/tpm-link.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { freePortPair } from './swtpm-process.js';
import { startMssimPeer, type TpmPeer } from './tpm-peer.js';

// Or tpm2-tss says on standard error what the tests want to happen.
process.env.TSS2_LOG = 'all+NONE';

const COMMAND = Buffer.from('80010000000a00000fff', 'hex');
const RESPONSE = Buffer.from('80010000000a00000143', 'hex');

/** The peer lives in the event loop of these tests: a call of C that blocked it would never get an answer. */
async function startTctiPeer(): Promise<TpmPeer> {
  const peer = await startMssimPeer(() => 'silence');
  const deadPort = await freePortPair();
  const linkTo = (port: number) => (clock: Clock) => new TctiLink(`mssim:host=127.0.0.1,port=${port}`, clock);
  return Object.assign(peer, { link: linkTo(peer.port), deadLink: linkTo(deadPort) });
}

describeTpmLinkContract('the link through tpm2-tss', startTctiPeer);

describe('the link through tpm2-tss says what is wrong', () => {
  it.each([
    ['nonesuch:x', 'ERR_DPS_CONFIG_UNSUPPORTED', 'tpm2-tss finds no TCTI "nonesuch"'],
    ['swtpm:colour=red', 'ERR_DPS_CONFIG_OPTION', 'does not understand'],
    ['device:/dev/tpm-nowhere', 'ERR_DPS_HSM_TPM_UNREACHABLE', 'TCTI device:/dev/tpm-nowhere'],
  ])('%s', async (name, code, words) => {
    const link = new TctiLink(name, systemClock);
    const error = await failureOf(link.transceive(COMMAND, 60_000));
    expect(error.code).toBe(code);
    expect(error.message).toContain(words);
    await link.close();
  });

  it.each(['device:/some/file', 'libtss2-tcti-device.so.0:/some/file'])(
    'without a byte to what is no device: %s',
    async (name) => {
      const library: TctiLibrary = { open: () => Promise.reject(new Error('It was opened.')) };
      const link = new TctiLink(name, new ManualClock(), {
        loadLibrary: async () => library,
        isDevice: async (path) => path !== '/some/file',
      });
      const error = await failureOf(link.transceive(COMMAND, 1_000));
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_UNREACHABLE' });
      expect(error.message).toContain('/some/file is no TPM device');
    },
  );

  it('when a file of this machine is named, too', async () => {
    const link = new TctiLink(`device:${process.execPath}`, systemClock, {
      loadLibrary: () => Promise.resolve({ open: () => Promise.reject(new Error('It was opened.')) }),
    });
    expect((await failureOf(link.transceive(COMMAND, 60_000))).message).toContain('is no TPM device');
  });

  it.each([
    ['transmit', 0x000a_000a, 'ERR_DPS_HSM_TPM_CONNECTION_LOST'],
    ['receive', 0x000a_0011, 'ERR_DPS_HSM_TPM_RESPONSE'],
    ['receive', 0x000a_0006, 'ERR_DPS_HSM_TPM_RESPONSE'],
    ['open', 0x000a_000c, 'ERR_DPS_HSM_TPM_PERMISSION'],
  ] as const)('when it fails to %s with %i', async (step, code, expected) => {
    const { link } = fakeLink(new ManualClock(), {
      [step]: () => Promise.reject(new TctiFailure(step, code)),
    });
    expect((await failureOf(link.transceive(COMMAND, 1_000))).code).toBe(expected);
    await link.close();
  });
});

describe('the link through tpm2-tss, when C does not come back', () => {
  it('waits for a silent TPM in slices: nothing is kept once nobody waits', async () => {
    const peer = await startTctiPeer();
    const clock = new ManualClock();
    const link = peer.link(clock);
    const failing = failureOf(link.transceive(COMMAND, 1_000));
    while (peer.commands.length === 0) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1_000);
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    await link.close();
    // Ends only when tpm2-tss has closed the connections, which it cannot as long as it reads from them.
    while ((await peer.openEnds()) > 0) await new Promise((resolve) => setImmediate(resolve));
    await peer.close();
  });

  it('sends nothing more there until it has, from no link', async () => {
    const clock = new ManualClock();
    let release: () => void = () => undefined;
    const stuck = fakeLink(clock, { transmit: () => new Promise<void>((resolve) => (release = resolve)) });
    const failing = failureOf(stuck.link.transceive(COMMAND, 1_000));
    await stuck.reached('transmit');
    clock.advance(1_000);
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    // What C is at work in stays open, whoever wants to let go of it.
    stuck.link.rest();
    await stuck.link.close();
    expect(stuck.calls).toEqual(['open', 'transmit']);

    const other = fakeLink(clock, {});
    const impatient = failureOf(other.link.transceive(COMMAND, 500));
    clock.advance(500);
    expect((await impatient).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    const patient = other.link.transceive(COMMAND, 1_000);
    await Promise.resolve();
    expect(other.calls).toEqual([]);
    release();
    expect(Buffer.from(await patient)).toEqual(RESPONSE);
    expect(stuck.calls).toEqual(['open', 'transmit', 'hasResponse', 'receive', 'close']);
    expect(other.calls).toEqual(['open', 'transmit', 'hasResponse', 'receive']);
    await Promise.all([stuck.link.close(), other.link.close()]);
    expect(other.calls.at(-1)).toBe('close');
    expect(clock.pending).toBe(0);
  });

  it('gives up what is late to open', async () => {
    const clock = new ManualClock();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const late = fakeLink(clock, { open: () => held });
    const failing = failureOf(late.link.transceive(COMMAND, 1_000));
    await late.reached('open');
    clock.advance(1_000);
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    release();
    await late.reached('close');
    expect(late.calls).toEqual(['open', 'close']);
  });

  it('is closed while it waits', async () => {
    const clock = new ManualClock();
    const waiting = fakeLink(clock, { hasResponse: () => new Promise((resolve) => setImmediate(resolve, false)) });
    const failing = failureOf(waiting.link.transceive(COMMAND, 1_000));
    await waiting.reached('hasResponse');
    await waiting.link.close();
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_CONNECTION_LOST');
    await waiting.reached('close');
    expect(clock.pending).toBe(0);
  });
});

describe('what the link through tpm2-tss needs', () => {
  it('is the package koffi', async () => {
    const missing = Object.assign(new Error("Cannot find package 'koffi' imported from here"), {
      code: 'ERR_MODULE_NOT_FOUND',
    });
    const error = await failureOf(loadKoffi(() => Promise.reject(missing)));
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_UNSUPPORTED', option: 'hsm.link' });
    expect(error.message).toBe(
      'The package koffi is needed for links of the kind tcti and not installed: npm install koffi',
    );
  });

  it('is one that can be loaded', async () => {
    const error = await failureOf(loadKoffi(() => Promise.reject(new Error('Cannot find the native Koffi module'))));
    expect(error.code).toBe('ERR_DPS_CONFIG_UNSUPPORTED');
    expect(error.message).toContain('Cannot find the native Koffi module');
  });

  it('is version 3 of it', async () => {
    const error = await failureOf(loadKoffi(async () => ({ default: { version: '2.12.4' } })));
    expect(error.message).toContain('npm install koffi@3');
  });

  it('is the library of tpm2-tss', async () => {
    const error = await failureOf(loadTctiLibrary(undefined, 'libtss2-nowhere.so.0'));
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_UNSUPPORTED', option: 'hsm.link' });
    expect(error.message).toContain('apt-get install libtss2-tctildr0');
  });
});

interface FakeParts {
  readonly open?: () => Promise<void>;
  readonly transmit?: () => Promise<void>;
  readonly hasResponse?: () => Promise<boolean>;
  readonly receive?: () => Promise<Uint8Array>;
}

/** A link on a TCTI that is played here. All of them lead to the same place. */
function fakeLink(
  clock: Clock,
  parts: FakeParts,
): { link: TctiLink; calls: string[]; reached(call: string): Promise<void> } {
  const calls: string[] = [];
  const playing =
    <T>(name: string, part: () => Promise<T>) =>
    (): Promise<T> => {
      if (calls.at(-1) !== name) calls.push(name);
      return part();
    };
  const opened = playing('open', parts.open ?? (async () => undefined));
  const context = {
    transmit: playing('transmit', parts.transmit ?? (async () => undefined)),
    hasResponse: playing('hasResponse', parts.hasResponse ?? (async () => true)),
    receive: playing('receive', parts.receive ?? (async () => Uint8Array.from(RESPONSE))),
    close: playing('close', async () => undefined),
  };
  const library: TctiLibrary = {
    open: async () => {
      await opened();
      return context;
    },
  };
  return {
    link: new TctiLink('fake:', clock, { loadLibrary: async () => library }),
    calls,
    async reached(call) {
      while (!calls.includes(call)) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

async function failureOf(promise: Promise<unknown>): Promise<DpsError> {
  return promise.then(
    () => Promise.reject(new Error('It succeeded.')),
    (error: DpsError) => error,
  );
}
