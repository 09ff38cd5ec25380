/** The search itself: one that finds nothing in the other tests must find what is there in these. */
import { createHash } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { DpsCredential, DpsTransport } from '../../src/core/transport.js';
import { PROGRESS_CHANNEL } from '../../src/diagnostics.js';
import { HsmError } from '../../src/errors.js';
import { provision } from '../../src/index.js';
import { INDIVIDUAL, KEYS, makeSecrets, PASSPHRASE, startBench, TPM_BLOB } from './bench.js';
import { Canaries, canaryBytes } from './canaries.js';
import { errorOutputs, findLeaks, type Outputs, printed, startRecording } from './channels.js';

const SECRET = canaryBytes('planted', 48);
const BASE64 = SECRET.toString('base64');
const HEX = SECRET.toString('hex');
const canaries = new Canaries().addBytes('planted', SECRET).addText('phrase', PASSPHRASE);

function namesIn(text: string): string[] {
  return canaries.leaksIn('text', text).map(({ secret }) => secret);
}

describe('a secret is found', () => {
  it.each<[spelling: string, text: string]>([
    ['in Base64', BASE64],
    ['in Base64 without its ends', BASE64.slice(7, 21)],
    ['twelve letters of it', BASE64.slice(30, 42)],
    ['in the URL-safe alphabet', SECRET.toString('base64url')],
    ['percent-encoded', encodeURIComponent(BASE64)],
    ['percent-encoded twice', encodeURIComponent(encodeURIComponent(BASE64))],
    ['percent-encoded in lower case', encodeURIComponent(BASE64).toLowerCase()],
    ['in HTML', BASE64.replace(/[+/=]/g, (sign) => `&#x${sign.charCodeAt(0).toString(16)};`)],
    ['backwards', [...BASE64].reverse().join('')],
    ['in hex', HEX],
    ['in upper-case hex', HEX.toUpperCase()],
    ['in hex with colons', HEX.replace(/../g, '$&:')],
    ['as a Buffer is printed', inspect(SECRET)],
    ['as an array is printed', inspect(new Uint8Array(SECRET))],
    ['as JSON of a Buffer', JSON.stringify(SECRET)],
    ['in Base64 of Base64', Buffer.from(BASE64).toString('base64')],
    ['in Base64 of something around it', Buffer.concat([Buffer.from('user:'), SECRET]).toString('base64')],
    ['in Base64 of text around it', Buffer.from(`user:${BASE64}`).toString('base64')],
    ['in lines', BASE64.replace(/.{8}/g, '$&\n')],
    ['in pieces, as long texts are printed', inspect({ text: BASE64 }, { breakLength: 10, compact: false })],
    ['in JSON in JSON', JSON.stringify(JSON.stringify({ key: BASE64 }))],
    ['in JSON in JSON in hex', Buffer.from(JSON.stringify(JSON.stringify({ key: BASE64 }))).toString('hex')],
  ])('%s', (_spelling, text) => {
    expect(namesIn(`before ${text} after`)).toEqual(['planted']);
  });

  it('that is text, in every spelling of it', () => {
    const bytes = Buffer.from(PASSPHRASE);
    for (const text of [PASSPHRASE, encodeURIComponent(PASSPHRASE), bytes.toString('base64'), bytes.toString('hex')]) {
      expect(namesIn(`x${text}x`), text).toContain('phrase');
    }
    expect(namesIn(inspect(bytes))).toContain('phrase');
  });

  it('that is a line of a private key, but not what all keys have in common', async () => {
    const { certified, canaries: all } = await makeSecrets();
    const { keyPem, encryptedKeyPem, certificatePem } = certified;
    const found = (text: string) => all.leaksIn('text', text).map(({ secret }) => secret);
    expect(found(keyPem)).toEqual(expect.arrayContaining(['private key PEM', 'private key']));
    expect(found(encryptedKeyPem)).toContain('encrypted private key PEM');
    for (const line of keyPem.split('\n').slice(1, 3)) expect(found(line)).not.toEqual([]);
    expect(found(certificatePem)).toEqual([]);
    expect(found('-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg')).toEqual([]);
  });

  it('of every kind that the other tests look for', async () => {
    const { canaries: all } = await makeSecrets();
    for (const text of [...Object.values(KEYS), PASSPHRASE, TPM_BLOB]) {
      expect(all.leaksIn('text', text), text).not.toEqual([]);
    }
  });

  it('only where there is one', () => {
    const other = createHash('sha512').update('another secret').digest('base64');
    const texts = [other, inspect(process.versions), new Error('an ordinary stack').stack ?? '', BASE64.slice(0, 11)];
    for (const text of texts) expect(namesIn(text)).toEqual([]);
  });
});

describe('a secret is found where it is planted', () => {
  const found = (outputs: Outputs): string[] => findLeaks(canaries, outputs).map(({ channel: where }) => where);

  it.each<[place: string, error: Error]>([
    ['message', new Error(`no: ${BASE64}`)],
    ['stack', Object.assign(new Error('no'), { stack: `Error: no\n    at ${BASE64}` })],
    ['cause', new Error('no', { cause: new Error('no', { cause: new Error(BASE64) }) })],
    ['cause that is no error', new Error('no', { cause: { deep: [{ key: SECRET }] } })],
    ['member', Object.assign(new Error('no'), { key: BASE64 })],
    ['name of a member', Object.assign(new Error('no'), { [BASE64]: true })],
    ['hidden member', Object.defineProperty(new Error('no'), 'key', { value: BASE64, enumerable: false })],
    ['member by symbol', Object.assign(new Error('no'), { [Symbol('key')]: SECRET })],
    ['getter', Object.defineProperty(new Error('no'), 'key', { get: () => BASE64 })],
    ['one of several errors', new AggregateError([new Error(BASE64)], 'no')],
    ['JSON', Object.assign(new Error('no'), { toJSON: () => ({ key: BASE64 }) })],
    ['text', Object.assign(new Error('no'), { toString: () => BASE64 })],
    ['error of this package', new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: BASE64, operation: 'sign' })],
  ])('in an error: %s', (_place, error) => {
    expect(found(errorOutputs('error', error))).not.toEqual([]);
  });

  it.each<[place: string, value: object]>([
    ['member', { key: BASE64 }],
    ['deep member', { a: { b: { c: { d: { e: { f: SECRET } } } } } }],
    ['hidden member', Object.defineProperty({}, 'key', { value: BASE64, enumerable: false })],
    ['promise', Promise.resolve({ key: BASE64 })],
    ['map', new Map([['key', BASE64]])],
    ['long text', { text: `${'x'.repeat(100_000)}${BASE64}` }],
    ['long list', Array.from({ length: 500 }, (_, index) => (index === 499 ? BASE64 : ''))],
  ])('in an object: %s', (_place, value) => {
    expect(found(printed('object', value))).not.toEqual([]);
  });

  it('on the diagnostics channel', () => {
    const recording = startRecording();
    channel(PROGRESS_CHANNEL).publish({ type: 'started', key: BASE64 });
    expect(found(recording.outputs())).toEqual(['diagnostics channel']);
  });

  it('in a warning of the process', async () => {
    const recording = startRecording();
    process.emitWarning(`careful: ${BASE64}`);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    expect(found(recording.outputs())).toEqual(['process warnings']);
  });

  it.each(['stdout', 'stderr'] as const)('on %s', (name) => {
    const recording = startRecording();
    process[name].write(`${HEX}\n`);
    process[name].write(Buffer.from(`${HEX}\n`));
    expect(found(recording.outputs())).toEqual(['what this process wrote']);
  });

  it('in the log and the trace of the emulator', async () => {
    const bench = await startBench();
    const name = `${SECRET.toString('hex').slice(0, 40)}.example`;
    bench.emulator.faults.add({ at: 'dps.register', action: { kind: 'respond', status: 400 } });
    await provision(
      bench.options('https', { hsm: { kind: 'symmetricKey', registrationId: name, key: KEYS.device } }),
    ).catch(() => undefined);
    expect(found(bench.outputs())).toEqual(expect.arrayContaining(['emulator log', 'emulator trace']));
  });
});

describe('the tokens that the other tests look for', () => {
  it('are those that are sent', async () => {
    const bench = await startBench();
    const credentials: DpsCredential[] = [];
    const listening: DpsTransport = {
      name: 'listening',
      open: async ({ credential }) => {
        credentials.push(credential);
        throw new Error('enough');
      },
    };
    await provision(bench.options('mqtt', { transport: listening })).catch(() => undefined);
    expect(credentials).toEqual([{ kind: 'sas', token: bench.dpsToken(KEYS.device, INDIVIDUAL) }]);
    const device = await provision(bench.options('mqtt', {}));
    const { password = '' } = await device.mqttOptions();
    expect(password).toBe(bench.hubToken(KEYS.device, INDIVIDUAL));
    expect(bench.canaries.leaksIn('text', password)).toEqual([expect.objectContaining({ secret: 'hub token' })]);
  });
});
