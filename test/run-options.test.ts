import { describe, expect, it } from 'vitest';
import { LastingSession } from '../src/hub/lasting-session.js';
import { run } from '../src/index.js';

const hsm = { kind: 'symmetricKey', registrationId: 'dev-1', key: 'MDEyMzQ1Njc4OWFiY2RlZg==' } as const;

describe('a desired property that no twin has', () => {
  it.each([
    ['$version', /a property of your own: those that begin with \$ belong to the hub/],
    ['$metadata', /belong to the hub/],
    ['a.b', /the name of one property, the outermost where they nest/],
    ['a b', /have no dot, \$, space or control character/],
    ['a$', /have no dot, \$/],
    ['a\u0085', /control character/],
  ])('%j is refused, since it would never order anything', async (desiredProperty, says) => {
    // Options come before everything; who lets them pass ends at once.
    const signal = AbortSignal.abort();
    const error = await run({ idScope: 'x', hsm, reprovisionOn: { desiredProperty }, signal }).closed;
    expect(error).toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: 'reprovisionOn',
      message: expect.stringMatching(says),
    });
  });

  it.each(['again', 'größe', 'a-b_c:d'])('%j may order', async (desiredProperty) => {
    const signal = AbortSignal.abort();
    const options = { idScope: 'x', hsm, reprovisionOn: { desiredProperty }, signal };
    expect(await run(options).closed).toBeUndefined();
  });
});

describe('a state that is neither a folder nor a store', () => {
  it.each([
    [5, /^Option state: it must be the path of a folder, or a store of your own: an object, not a number\.$/],
    [null, /the path of a folder, or a store of your own.*not null/],
    [['a'], /the path of a folder, or a store of your own.*not a list/],
  ])('%j is told with what is accepted', async (state, says) => {
    const error = await run({ idScope: 'x', hsm, state: state as never }).closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option: 'state' });
    expect(error?.message).toMatch(says);
  });
});

describe('a method that reprovisionOn names', () => {
  const own = {
    kind: 'symmetricKey',
    registrationId: async () => 'dev-1',
    sign: async () => new Uint8Array(32),
  } as const;
  const taken = {
    code: 'ERR_DPS_CONFIG_OPTION',
    option: 'reprovisionOn',
    message: expect.stringMatching(/"again" is the one that reprovisionOn names.*Give one of the two another name\.$/),
  };

  it('ends the run with words for it when the application has taken it before', async () => {
    const running = run({ idScope: 'x', endpoint: '127.0.0.1:1', hsm: own, reprovisionOn: { method: 'again' } });
    running.session.onMethod('again', () => ({ status: 200 }));
    expect(await running.closed).toMatchObject(taken);
  });

  it('is not the application’s to take afterwards', async () => {
    const handle = new LastingSession({ onTwin() {}, onClose: async () => {}, orderMethod: 'again' });
    const take = (name: string) => () => handle.onMethod(name, () => ({ status: 200 }));
    take('again')();
    expect(take('again')).toThrow(expect.objectContaining(taken));
    take('blink')();
    expect(take('blink')).toThrow(/"blink" has a handler already\./);
  });
});
