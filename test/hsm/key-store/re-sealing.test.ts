import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withoutRemarks } from '../../../hsm/key-store/store-header.js';
import { openKeyStore } from '../../../hsm/software-key-store.js';
import { encodeSlot } from '../../../src/durable/slot.js';
import { failureOf } from '../../fakes/failure-of.js';
import { certified, keyFile, makeTestStore, PASSPHRASE, scratchFolder, slotOf, symmetric } from './store-bench.js';

describe('re-sealing', () => {
  it('moves from passphrase to key and back; the old secret opens nothing any more, the spare copy included', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const sealingKey = { file: keyFile(folder) };
    const first = await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    await first.add('a', symmetric('dev-1'));
    const entryBefore = readFileSync(join(directory, 'entry-a.a'));
    await first.seal({ sealingKey });
    expect(readFileSync(join(directory, 'entry-a.a')).equals(entryBefore)).toBe(true);
    expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
      code: 'ERR_DPS_HSM_PASSPHRASE',
    });
    for (const slot of ['store.a', 'store.b']) {
      const path = join(directory, slot);
      renameSync(path, `${path}.kept`);
      expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
        code: 'ERR_DPS_HSM_PASSPHRASE',
      });
      expect(await (await openKeyStore({ directory, sealingKey })).list()).toHaveLength(1);
      renameSync(`${path}.kept`, path);
    }
    const second = await openKeyStore({ directory, sealingKey });
    await second.seal({ passphrase: `${PASSPHRASE}!` });
    expect(await failureOf(openKeyStore({ directory, sealingKey }))).toMatchObject({ code: 'ERR_DPS_HSM_PASSPHRASE' });
    // A store that was open before has the data key, and goes on.
    await first.add('b', symmetric('dev-1'));
    expect(await (await openKeyStore({ directory, passphrase: `${PASSPHRASE}!` })).list()).toHaveLength(2);
  });

  it('makes up for a second write that never happened, at the next change', async () => {
    const { store, options } = await makeTestStore();
    const { directory } = options;
    const file = readFileSync(join(directory, 'store.b'));
    const other = keyFile(scratchFolder(), 9);
    await store.seal({ sealingKey: { file: other } });
    // As a power cut between the two writes leaves it: the newest slot with the remark, the other sealed as before.
    const slots = ['a', 'b'].map((letter) => ({ letter, slot: slotOf(join(directory, `store.${letter}`)) }));
    const [newest] = slots.sort((one, two) => two.slot.generation - one.slot.generation);
    if (newest === undefined) throw new Error('unreachable');
    const marked = Buffer.concat([newest.slot.bytes, Buffer.from('spare-is-older\n')]);
    writeFileSync(join(directory, `store.${newest.letter}`), encodeSlot('store', { ...newest.slot, bytes: marked }));
    const spare = join(directory, `store.${newest.letter === 'a' ? 'b' : 'a'}`);
    writeFileSync(spare, file);
    const reopened = await openKeyStore({ directory, sealingKey: { file: other } });
    expect(readFileSync(spare).equals(file)).toBe(true);
    await reopened.add('a', symmetric('dev-1'));
    expect(readFileSync(spare).equals(file)).toBe(false);
    expect(withoutRemarks(slotOf(spare).bytes)).toEqual(withoutRemarks(newest.slot.bytes));
  });
});

describe('no file of the store', () => {
  it('has a key in plain, in any spelling', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const store = await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    const keys = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    const pairs = [await certified('dev-2'), await certified('dev-2', 'RSA-2048')];
    const [first, second] = keys as [KeyObject, KeyObject];
    const [pair, nextPair] = pairs;
    if (pair === undefined || nextPair === undefined) throw new Error('unreachable');
    await store.add('a', symmetric('dev-1', first));
    await store.stage('a', symmetric('dev-1', second));
    await store.add('b', pair);
    await store.stage('b', nextPair);
    const secrets = [...keys.map((key) => key.export()), ...pairs.flatMap(({ key }) => privateParts(key))];
    const needles = [...secrets.flatMap(needlesOf), Buffer.from(PASSPHRASE)];
    expect(needles.length).toBeGreaterThan(20);
    const scanned = scan(directory, needles);
    expect(scanned).toEqual({ files: expect.any(Number), found: [] });
    expect(scanned.files).toBeGreaterThanOrEqual(6);
    await store.commit('a');
    await store.seal({ sealingKey: { file: keyFile(folder) } });
    await store.discard('b');
    expect(scan(directory, [...needles, ...needlesOf(new Uint8Array(32).fill(7))]).found).toEqual([]);
    // The scan finds what is there.
    writeFileSync(join(directory, 'leak'), needles[0] ?? '');
    expect(scan(directory, needles).found).toEqual(['leak']);
  });
});

/** The whole key, and what alone makes it secret. */
function privateParts(key: KeyObject): Uint8Array[] {
  const { d = '', p = '', q = '' } = key.export({ format: 'jwk' });
  return [
    key.export({ type: 'pkcs8', format: 'der' }),
    ...[d, p, q].filter((part) => part !== '').map((part) => Buffer.from(part, 'base64url')),
  ];
}

/** The bytes, and 18 of them in hex and in Base64 at each of the three offsets a text may have. */
function needlesOf(secret: Uint8Array): Buffer[] {
  const middle = Math.max(0, Math.floor(secret.length / 2) - 12);
  const part = Buffer.from(secret.subarray(middle, middle + 24));
  const base64 = [0, 1, 2].map((offset) => Buffer.from(part.subarray(offset, offset + 18).toString('base64')));
  return [part, Buffer.from(part.toString('hex')), ...base64];
}

function scan(directory: string, needles: readonly Buffer[]): { files: number; found: string[] } {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(directory, name)).isFile(),
  );
  const found = names.filter((name) => {
    const content = readFileSync(join(directory, name));
    // PEM breaks Base64 into lines.
    const joined = Buffer.from(content.toString('latin1').replace(/\s|\\n/g, ''), 'latin1');
    return needles.some((needle) => content.includes(needle) || joined.includes(needle));
  });
  return { files: names.length, found };
}
