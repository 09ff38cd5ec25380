import { measureClient } from './measured-client.mjs';

const { signal } = new AbortController();

await measureClient(
  () => import('dps-device/hsm/tpm2'),
  async ({ tpm2Hsm }, address) => {
    const [link, encryptParameters] = address.split(' ');
    const hsm = await tpm2Hsm({ link, encryptParameters: encryptParameters !== 'clear' });
    return {
      keys: () => hsm.identity(signal),
      activate: (blob) => hsm.activate(blob, signal),
      // Kept at a second handle, then at the first: that it is the new one or the old one that signs, whatever happens.
      keep: async (blob) => {
        await hsm.stage(blob, signal);
        await hsm.commit(signal);
      },
      sign: (text) => hsm.sign(text, 0, signal),
    };
  },
);
