import { describeTpmLinkContract } from '../../contracts/tpm-link.js';
import { makeKernelDouble, startMssimPeer, startRawPeer } from './tpm-peer.js';

const silence = (): 'silence' => 'silence';

describeTpmLinkContract('the link to swtpm', () => startRawPeer(silence));
describeTpmLinkContract('the link to the reference simulator', () => startMssimPeer(silence));
describeTpmLinkContract('the link to the kernel', async () => makeKernelDouble(silence));
