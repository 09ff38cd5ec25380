import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { isDpsError, provision, run } from '../src/index.js';

const SECRET = 'MDEyMzQ1Njc4OWFiY2RlZg==';
const hsm = { kind: 'symmetricKey', registrationId: 'dev-1', key: SECRET };
const own = { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) };
const tpm = {
  ...own,
  kind: 'tpm',
  ...{ endorsement() {}, activate() {}, stage() {}, commit() {}, discard() {} },
};
const circular: Record<string, unknown> = {};
circular.self = circular;

/** Options that are wrong, which of them, and what the message must say. Nothing of this reaches a socket. */
const WRONG: readonly (readonly [string, unknown, string, RegExp])[] = [
  ['no object at all', undefined, 'options', /takes one object/],
  ['a list', [], 'options', /a list/],
  ['nothing', {}, 'idScope', /overview page/],
  ['an ID scope that is no text', { idScope: 5, hsm }, 'idScope', /a text, not a number/],
  ['an ID scope with a line break', { idScope: '0ne\r\n', hsm }, 'idScope', /ID scope/],
  ['no hsm', { idScope: 'x' }, 'hsm', /give what proves/],
  ['an hsm that is a text', { idScope: 'x', hsm: SECRET }, 'hsm', /an object, not a text/],
  ['an hsm of unknown kind', { idScope: 'x', hsm: { kind: 'magic' } }, 'hsm', /symmetricKey, x509, tpm/],
  ['an hsm kind that every object has', { idScope: 'x', hsm: { kind: 'constructor' } }, 'hsm', /kind must be/],
  [
    'an own hsm without sign',
    { idScope: 'x', hsm: { kind: 'symmetricKey', registrationId: async () => 'd' } },
    'hsm',
    /sign\(\)/,
  ],
  ['an own hsm with a plain id', { idScope: 'x', hsm: { ...own, registrationId: 'd' } }, 'hsm', /registrationId\(\)/],
  [
    'an own certificate without method',
    { idScope: 'x', hsm: { kind: 'x509', registrationId: async () => 'd' } },
    'hsm',
    /tlsCredential\(\)/,
  ],
  ['a TPM that lacks half', { idScope: 'x', hsm: { ...own, kind: 'tpm' } }, 'hsm', /endorsement\(\)/],
  ['an endpoint object', { idScope: 'x', hsm, endpoint: { host: 'x' } }, 'endpoint', /a text, not an object/],
  ['an endpoint with a scheme', { idScope: 'x', hsm, endpoint: 'https://dps.example' }, 'endpoint', /./],
  ['an endpoint with port 0', { idScope: 'x', hsm, endpoint: 'dps.example:0' }, 'endpoint', /port/],
  [
    'an unknown transport',
    { idScope: 'x', hsm, transport: 'coap' },
    'transport',
    /mqtt-ws or amqp or amqp-ws or https/,
  ],
  ['auto in a list', { idScope: 'x', hsm, transport: ['auto'] }, 'transport', /"auto" is not known; it can be mqtt or/],
  [
    'no transport in a list',
    { idScope: 'x', hsm, transport: [] },
    'transport',
    /the list is empty; it can have mqtt, /,
  ],
  [
    'a list with a hole as transport',
    { idScope: 'x', hsm, transport: Object.assign(new Array(2), { 0: 'mqtt' }) },
    'transport',
    /the list must have names in it, not undefined/,
  ],
  ['a transport twice', { idScope: 'x', hsm, transport: ['mqtt', 'mqtt'] }, 'transport', /has a name twice/],
  [
    'an own transport in a list',
    { idScope: 'x', hsm, transport: [{ open() {} }] },
    'transport',
    /names in it, not an obj/,
  ],
  [
    'AMQP in a list for the hub',
    { idScope: 'x', hsm, hubTransport: ['mqtt', 'amqp'] },
    'hubTransport',
    /"amqp" is not/,
  ],
  ['MQTT in a list for a TPM', { idScope: 'x', hsm: tpm, transport: ['https', 'mqtt-ws'] }, 'transport', /give auto/],
  ['AMQP for the hub', { idScope: 'x', hsm, hubTransport: 'amqp' }, 'hubTransport', /it can be mqtt or mqtt-ws/],
  [
    'a TPM over MQTT',
    { idScope: 'x', hsm: tpm, transport: 'mqtt' },
    'transport',
    /no TPM over MQTT; .* amqp or amqp-ws/,
  ],
  ['a TPM over MQTT-WS', { idScope: 'x', hsm: { kind: 'tpm' }, transport: 'mqtt-ws' }, 'transport', /no TPM over MQTT/],
  ['an empty transport', { idScope: 'x', hsm, transport: {} }, 'transport', /open\(\)/],
  ['half a hub transport', { idScope: 'x', hsm, hubTransport: { open() {} } }, 'hubTransport', /connectionInfo\(\)/],
  ['a path as ca', { idScope: 'x', hsm, ca: './ca.pem' }, 'ca', /not a path/],
  ['bytes as ca', { idScope: 'x', hsm, ca: Buffer.from('x') }, 'ca', /'utf8'/],
  ['nothing beside a ca', { idScope: 'x', hsm, ca: ['-----BEGIN ', undefined] }, 'ca', /not undefined/],
  ['nothing alone as ca', { idScope: 'x', hsm, ca: [undefined] }, 'ca', /not undefined/],
  // biome-ignore lint/suspicious/noSparseArray: the hole is what is tested.
  ['a hole in the list of ca', { idScope: 'x', hsm, ca: [, '-----BEGIN '] }, 'ca', /not undefined/],
  ['an empty list as ca', { idScope: 'x', hsm, ca: [] }, 'ca', /empty/],
  ['a circular payload', { idScope: 'x', hsm, payload: circular }, 'payload', /JSON/],
  ['a payload that is a function', { idScope: 'x', hsm, payload: () => {} }, 'payload', /a function/],
  ['a BigInt in the payload', { idScope: 'x', hsm, payload: { n: 1n } }, 'payload', /BigInt/],
  ['a payload over the limit', { idScope: 'x', hsm, payload: 'x'.repeat(100_000) }, 'payload', /98304/],
  ['a model id that is none', { idScope: 'x', hsm, modelId: 'thermostat' }, 'modelId', /dtmi:/],
  ['a model id that is a number', { idScope: 'x', hsm, modelId: 5 }, 'modelId', /a number/],
  ['a deadline as text', { idScope: 'x', hsm, deadlineMs: '5000' }, 'deadlineMs', /not a text/],
  ['a deadline of 0', { idScope: 'x', hsm, deadlineMs: 0 }, 'deadlineMs', /above 0, not 0/],
  ['a timeout that is NaN', { idScope: 'x', hsm, requestTimeoutMs: Number.NaN }, 'requestTimeoutMs', /NaN/],
  ['a token for a thousand years', { idScope: 'x', hsm, tokenLifeSeconds: 4e10 }, 'tokenLifeSeconds', /from 60 to/],
  ['a token that no request would outlive', { idScope: 'x', hsm, tokenLifeSeconds: 30 }, 'tokenLifeSeconds', /not 30/],
  [
    'an AbortController as signal',
    { idScope: 'x', hsm, signal: new AbortController() },
    'signal',
    /controller\.signal/,
  ],
  ...(['aborted', 'addEventListener', 'removeEventListener'] as const).map((name) => {
    const signal = { aborted: false, addEventListener() {}, removeEventListener() {}, [name]: undefined };
    return [`a signal without ${name}`, { idScope: 'x', hsm, signal }, 'signal', /an AbortSignal, not an obj/] as const;
  }),
  ['half a clock', { idScope: 'x', hsm, clock: { wallMs: () => 0 } }, 'clock', /monotonicMs\(\)/],
  ['an empty path as state', { idScope: 'x', hsm, state: '' }, 'state', /path of a folder/],
  ['a path with a NUL as state', { idScope: 'x', hsm, state: 'a\0b' }, 'state', /path of a folder/],
  ['a number as state', { idScope: 'x', hsm, state: 5 }, 'state', /an object, not a number/],
  ['a store that forgets nothing', { idScope: 'x', hsm, state: { load() {}, save() {} } }, 'state', /forget\(\)/],
  ['reprovision as text', { idScope: 'x', hsm, reprovision: 'yes' }, 'reprovision', /true or false, not a text/],
  ['a negative spread', { idScope: 'x', hsm, startSpreadMs: -1 }, 'startSpreadMs', /from 0 to 86400000.*not -1/],
  ['a spread that is no number', { idScope: 'x', hsm, startSpreadMs: '1' }, 'startSpreadMs', /not a text/],
  ['a spread that is NaN', { idScope: 'x', hsm, startSpreadMs: Number.NaN }, 'startSpreadMs', /not NaN/],
  ['a spread of a week', { idScope: 'x', hsm, startSpreadMs: 7 * 86_400_000 }, 'startSpreadMs', /a day in ms/],
  ['chance that is no function', { idScope: 'x', hsm, random: 0.5 }, 'random', /a function, not a number/],
  ['a slip of the finger', { idScope: 'x', hms: hsm }, 'hms', /Did you mean hsm/],
  ['what only run() knows', { idScope: 'x', hsm, reprovisionOn: {} }, 'reprovisionOn', /unknown/],
  ['an unknown option', { idScope: 'x', hsm, colour: 'blue' }, 'colour', /Known are idScope/],
  [
    'an unknown option without end',
    { idScope: 'x', hsm, ['a b '.repeat(250_000)]: 1 },
    `${'a b '.repeat(15)}…`,
    /^Option "(a b ){15}…" is unknown\. Known are .{1,300}$/,
  ],
  ['a secret as unknown option', { idScope: 'x', hsm, [`key=${SECRET}${SECRET}`]: 1 }, '[…]', /"\[…\]" is unknown/],
];

/** Those of `run()` alone. */
const WRONG_FOR_RUN: readonly (readonly [string, unknown, string, RegExp])[] = [
  ['a trigger as text', { idScope: 'x', hsm, reprovisionOn: 'method' }, 'reprovisionOn', /such as \{ method/],
  ['a list of triggers', { idScope: 'x', hsm, reprovisionOn: ['a'] }, 'reprovisionOn', /not a list/],
  ['an unknown trigger', { idScope: 'x', hsm, reprovisionOn: { property: 'a' } }, 'reprovisionOn', /not "property"/],
  ['a method without a name', { idScope: 'x', hsm, reprovisionOn: { method: '' } }, 'reprovisionOn', /method must be/],
  [
    'a method that no hub could call',
    { idScope: 'x', hsm, reprovisionOn: { method: 'a b/\0' } },
    'reprovisionOn',
    /method must be the name of a direct method, not one with control characters/,
  ],
  [
    'a method without end',
    { idScope: 'x', hsm, reprovisionOn: { method: 'x'.repeat(1_000_000) } },
    'reprovisionOn',
    /method must be the name of a direct method, not one of 1000000 characters/,
  ],
  [
    'a property that is a number',
    { idScope: 'x', hsm, reprovisionOn: { method: 'a', desiredProperty: 5 } },
    'reprovisionOn',
    /desiredProperty must be a name, not a number/,
  ],
  ['a sink that is no function', { idScope: 'x', hsm, onStrayError: {} }, 'onStrayError', /a function, not an object/],
  ['a slip of the finger', { idScope: 'x', hsm, reprovisionOm: {} }, 'reprovisionOm', /Did you mean reprovisionOn/],
  ['no object at all', undefined, 'options', /^run\(\) takes one object/],
];

describe('options of run()', () => {
  it.each([
    ...WRONG.filter(([name]) => name !== 'what only run() knows' && name !== 'no object at all'),
    ...WRONG_FOR_RUN,
  ])('%s', async (_, options, option, says) => {
    const error = await run(options as never).closed;
    expect(error, inspect(error)).toMatchObject({
      name: 'ConfigurationError',
      option,
      message: expect.stringMatching(says),
    });
    expect(inspect(error, { depth: Infinity, showHidden: true })).not.toContain(SECRET);
  });
});

describe('options of provision()', () => {
  it.each(WRONG)('%s', async (_, options, option, says) => {
    const error: unknown = await provision(options as never).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(isDpsError(error), inspect(error)).toBe(true);
    expect(error).toMatchObject({ name: 'ConfigurationError', option, message: expect.stringMatching(says) });
    expect(inspect(error, { depth: Infinity, showHidden: true })).not.toContain(SECRET);
  });

  it('an HSM of one’s own that gives the wrong things is named, before the service sees them', async () => {
    const reject = (part: object): Promise<unknown> =>
      provision({ idScope: 'x', endpoint: '127.0.0.1:1', hsm: { ...own, ...part } as never, deadlineMs: 1_000 }).catch(
        (reason) => reason,
      );
    expect(await reject({ sign: async () => 'a text' })).toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      message: expect.stringMatching(/sign\(\).*a text/s),
    });
    expect(await reject({ sign: async () => new Uint8Array(31) })).toMatchObject({
      message: expect.stringContaining('31 bytes'),
    });
    expect(await reject({ registrationId: async () => 7 })).toMatchObject({ code: 'ERR_DPS_HSM_REGISTRATION_ID' });
    expect(await reject({ registrationId: async () => 'a b' })).toMatchObject({ code: 'ERR_DPS_HSM_REGISTRATION_ID' });
  });

  it('a failure that a slow reader of the events has yet to see is not an unhandled rejection', async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown): unknown => unhandled.push(reason);
    process.on('unhandledRejection', note);
    try {
      const journey = provision({
        idScope: 'x',
        hsm: { ...own, registrationId: () => Promise.reject(new Error('x')) } as never,
      });
      for await (const _ of journey.events) await new Promise((resolve) => setImmediate(resolve));
      for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
      await expect(journey).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
      expect(unhandled).toEqual([]);
    } finally {
      process.off('unhandledRejection', note);
    }
  });
});
