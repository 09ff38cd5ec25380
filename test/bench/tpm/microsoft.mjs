import { createRequire } from 'node:module';
import { measureClient } from './measured-client.mjs';

const peers = createRequire(new URL('../../../.rig/tpm-peers/package.json', import.meta.url));

await measureClient(
  async () => ({ ...peers('azure-iot-security-tpm'), ...peers('tss.js') }),
  async ({ TpmSecurityClient, Tpm }, port) => {
    const client = new TpmSecurityClient(undefined, new Tpm(true, '127.0.0.1', Number(port)));
    const call = (name, ...parameters) =>
      new Promise((resolve, reject) => {
        client[name](...parameters, (error, value) => (error ? reject(error) : resolve(value)));
      });
    return {
      keys: async () => ({
        endorsementKey: (await call('getEndorsementKey')).toString('base64'),
        storageRootKey: (await call('getStorageRootKey')).toString('base64'),
      }),
      // Every key is kept at the handle.
      activate: (blob) => call('activateIdentityKey', blob),
      keep: (blob) => call('activateIdentityKey', blob),
      sign: (text) => call('signWithIdentity', text),
    };
  },
);
