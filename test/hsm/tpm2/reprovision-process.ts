import { connect } from 'node:net';
import { parseTpmLink } from '../../../hsm/tpm2/links/link-uri.js';
import { openTpmLink } from '../../../hsm/tpm2/links/open-link.js';
import { type TpmLink, tpm2Hsm } from '../../../hsm/tpm2.js';
import { systemClock } from '../../../src/system-clock.js';

/**
 * Provisions a device again, and dies by SIGKILL in the middle: when so many commands have been answered, or have only
 * been sent. Prints how many commands it took, if it lives.
 *
 * argv: link, Base64 of the challenge, Base64 of the hub key blob, number of commands, `answered` | `sent`
 */
const [uri = '', challenge = '', hubKey = '', count = '', when = ''] = process.argv.slice(2);
const { signal } = new AbortController();

const inner = await openTpmLink(parseTpmLink(uri), systemClock);
let commands = 0;
const link: TpmLink = {
  place: inner.place,
  async transceive(command, timeoutMs) {
    commands += 1;
    const isLast = commands === Number(count);
    if (isLast && when === 'sent') return sendAndDie(command);
    const response = await inner.transceive(command, timeoutMs);
    if (isLast) process.kill(process.pid, 'SIGKILL');
    return response;
  },
  rest: () => inner.rest(),
  close: () => inner.close(),
};

/** The TPM gets the command, and nobody waits for the answer. */
function sendAndDie(command: Uint8Array): Promise<never> {
  const socket = connect(uri.replace('tpm2:swtpm:path=', ''));
  socket.write(command, () => process.kill(process.pid, 'SIGKILL'));
  return new Promise(() => undefined);
}

const hsm = await tpm2Hsm({ link });
await hsm.endorsement(signal);
await hsm.activate(Buffer.from(challenge, 'base64'), signal);
await hsm.sign(Buffer.from('token'), 0, signal);
await hsm.stage(Buffer.from(hubKey, 'base64'), signal);
await hsm.sign(Buffer.from('hub token'), 0, signal);
await hsm.commit(signal);
await hsm.close();
process.stdout.write(String(commands));
