import { randomBytes } from 'node:crypto';
import { TctiLink } from '../../../hsm/tpm2/links/tcti-link.js';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import { systemClock } from '../../../src/system-clock.js';
import { sealKey } from './sealed-key.js';

/**
 * A device that uses a TCTI of tpm2-tss, from the challenge to a signature of the hub key. Prints its registration id, the
 * hub key and a signature of 3000 zeros. A process of its own, because tabrmd's TCTI ends the process when its bus goes
 * away.
 *
 * argv: name of the TCTI, `device` | `file`: what a `device:` is here
 */
const [name = '', kind = ''] = process.argv.slice(2);
const { signal } = new AbortController();

const surroundings = kind === 'file' ? { isDevice: async () => true } : {};
const hsm = await tpm2Hsm({ link: new TctiLink(name, systemClock, surroundings) });
const hubKey = randomBytes(32);
for (const [key, take] of [
  [randomBytes(32), hsm.activate],
  [hubKey, hsm.stage],
] as const) {
  const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
  await take.call(hsm, sealKey(endorsementKey, storageRootKey, key).blob, signal);
}
await hsm.commit(signal);
const signature = await hsm.sign(new Uint8Array(3000), 0, signal);
const registrationId = await hsm.registrationId(signal);
await hsm.close();
process.stdout.write(
  JSON.stringify({ registrationId, hubKey: hubKey.toString('hex'), signature: Buffer.from(signature).toString('hex') }),
);
