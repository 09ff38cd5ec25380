import { SwtpmLink } from '../../../hsm/tpm2/links/swtpm.js';
import { systemClock } from '../../../src/system-clock.js';
import { startMssimPeer } from '../../hsm/tpm2/tpm-peer.js';

/** The reference simulator's protocol in front of the swtpm on the port given. Prints its own port. */
const inner = new SwtpmLink({ host: '127.0.0.1', port: Number(process.argv[2]) }, systemClock);
const bridge = await startMssimPeer(async (command) => ({ response: await inner.transceive(command, 60_000) }));
process.stdout.write(String(bridge.port));
// It must not outlive the bench, whichever way that ends.
process.stdin.on('end', () => process.exit()).resume();
