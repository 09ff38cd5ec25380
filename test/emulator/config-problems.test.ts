import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadEmulatorConfig, resolveConfig } from '../../src/emulator/config.js';
import { ConfigurationError } from '../../src/errors.js';
import { folder, key, leaf, read } from './config-bench.js';
import { DEVICE_KEY } from './tokens.js';
import { fromHex, VECTORS } from './tpm-vectors.js';

function problemOf(config: unknown): ConfigurationError {
  try {
    read(config);
  } catch (error) {
    if (error instanceof ConfigurationError) return error;
    throw error;
  }
  throw new Error('The configuration was accepted.');
}

describe('a wrong configuration names its path', () => {
  const individual = (more: object): object => ({ enrollments: [{ registrationId: 'a', attestation: key, ...more }] });
  const x509 = (inner: object): object => ({
    enrollmentGroups: [{ enrollmentGroupId: 'g', attestation: { x509: inner } }],
  });

  it.each<[string, unknown, string, string]>([
    ['no object', [], "the emulator's configuration", 'configuration must be an object, not a list.'],
    ['a typing error', { enrolments: [] }, 'enrolments', 'Did you mean "enrollments"?'],
    ['a typing error inside', { hubs: [{ name: 'a', hostname: 'b' }] }, 'hubs[0].hostname', 'Did you mean "hostName"?'],
    ['an unknown key', { zzzzzzzz: 1 }, 'zzzzzzzz', 'Known are'],
    [
      'a key of another kind of entry',
      { enrollmentGroups: [{ enrollmentGroupId: 'g', deviceId: 'x', attestation: key }] },
      'enrollmentGroups[0].deviceId',
      'not a known key',
    ],
    ['a missing member', { enrollments: [{ registrationId: 'a' }] }, 'enrollments[0].attestation', 'is missing'],
    ['a wrong type', { hubs: 'hub' }, 'hubs', 'must be a list'],
    [
      'a number out of range',
      { hubs: [{ name: 'a', allocationWeight: 1001 }] },
      'hubs[0].allocationWeight',
      'from 1 to 1000',
    ],
    ['a port that is none', { ports: { mqtt: 65536 } }, 'ports.mqtt', 'from 0 to 65535'],
    ['a hub twice', { hubs: [{ name: 'a' }, { name: 'a' }] }, 'hubs', '"a" twice'],
    [
      'a host name twice',
      {
        hubs: [
          { name: 'a', hostName: 'h.x' },
          { name: 'b', hostName: 'H.x' },
        ],
      },
      'hubs',
      '"h.x" twice',
    ],
    [
      'a scope twice',
      {
        scopes: [
          { idScope: 'a', hubs: [] },
          { idScope: 'a', hubs: [] },
        ],
      },
      'scopes',
      '"a" twice',
    ],
    ['no scope', { scopes: [] }, 'scopes', 'at least one'],
    ['both forms', { idScope: 'a', scopes: [{}] }, 'idScope', 'one of the scopes'],
    ['a second scope without its id', { scopes: [{}, {}] }, 'scopes[1].idScope', 'is missing'],
    [
      'an unknown status',
      individual({ provisioningStatus: 'paused' }),
      'enrollments[0].provisioningStatus',
      '"enabled", "disabled"',
    ],
    ['an unknown hub', individual({ iotHubs: ['nowhere'] }), 'enrollments[0].iotHubs[0]', 'hub-1'],
    ['static without a hub', individual({ allocationPolicy: 'static' }), 'enrollments[0].iotHubs', 'exactly one hub'],
    ['a bad registration id', individual({ registrationId: 'a b' }), 'enrollments[0].registrationId', 'a space'],
    ['a bad device id', individual({ deviceId: 'a/b' }), 'enrollments[0].deviceId', "'/'"],
    ['no attestation', individual({ attestation: {} }), 'enrollments[0].attestation', 'symmetricKey, x509 or tpm'],
    [
      'two attestations',
      individual({
        attestation: { ...key, x509: { clientCertificates: { primary: { certificate: { file: 'leaf.pem' } } } } },
      }),
      'enrollments[0].attestation',
      'not 2',
    ],
    [
      'a type that does not fit',
      individual({ attestation: { ...key, type: 'x509' } }),
      'enrollments[0].attestation.type',
      'says "x509"',
    ],
    [
      'a twin with a bad key',
      individual({ initialTwin: { properties: { desired: { 'a.b': 1 } } } }),
      'enrollments[0].initialTwin.properties.desired',
      "'.'",
    ],
    [
      'tags of more than 8 KB',
      individual({ initialTwin: { tags: { a: 'x'.repeat(4096), b: 'x'.repeat(4096) } } }),
      'enrollments[0].initialTwin.tags',
      '8192',
    ],
    [
      'no certificate',
      x509({ signingCertificates: {} }),
      'enrollmentGroups[0].attestation.x509.signingCertificates',
      'primary or a secondary',
    ],
    [
      'both kinds of certificate',
      x509({}),
      'enrollmentGroups[0].attestation.x509',
      'either signingCertificates or caReferences',
    ],
    [
      'a file that is not there',
      x509({ signingCertificates: { primary: { certificate: { file: 'no.pem' } } } }),
      'enrollmentGroups[0].attestation.x509.signingCertificates.primary.certificate.file',
      'does not exist',
    ],
    [
      'a file that is no certificate',
      x509({ signingCertificates: { primary: { certificate: { file: 'nonsense.pem' } } } }),
      'enrollmentGroups[0].attestation.x509.signingCertificates.primary.certificate',
      'not a certificate',
    ],
    [
      'an unknown reference',
      x509({ caReferences: { primary: 'nobody' } }),
      'enrollmentGroups[0].attestation.x509.caReferences',
      '"nobody"',
    ],
    [
      'a verified CA that is none',
      { certificates: [{ name: 'x', certificate: { file: 'leaf.pem' } }] },
      'certificates[0].certificate',
      'not a CA',
    ],
    [
      'a server CA that is none',
      { tls: { certificateAuthority: { certificate: { file: 'leaf.pem' }, privateKey: { file: 'leaf.pem' } } } },
      'tls.certificateAuthority.certificate',
      'self-signed CA',
    ],
    [
      'a fault at no step',
      { faults: [{ at: 'dps.registr', action: { kind: 'silent' } }] },
      'faults[0].at',
      'dps.register',
    ],
  ])('%s', (_what, config, path, message) => {
    const problem = problemOf(config);
    expect(problem.option).toBe(path);
    expect(problem.message).toContain(message);
  });

  const { endorsementKey_TPM2B_PUBLIC, storageRootKey_TPM2B_PUBLIC } = VECTORS.softwareActivation;
  const endorsementKey = fromHex(endorsementKey_TPM2B_PUBLIC).toString('base64');
  const storageRootKey = fromHex(storageRootKey_TPM2B_PUBLIC).toString('base64');
  const tpm = (keys: object): object => individual({ attestation: { tpm: keys } });

  it.each<[string, object, string, string]>([
    [
      'by type alone',
      individual({ attestation: { type: 'tpm' } }),
      'attestation',
      'must have symmetricKey, x509 or tpm',
    ],
    ['without its key', tpm({ storageRootKey }), 'attestation.tpm.endorsementKey', 'is missing'],
    ['with what is no Base64', tpm({ endorsementKey: '!' }), 'attestation.tpm.endorsementKey', 'it is no Base64'],
    [
      'with a piece of a key',
      tpm({ endorsementKey: endorsementKey.slice(0, 100) }),
      'attestation.tpm.endorsementKey',
      'must be the Base64 of TPM2B_PUBLIC of an RSA 2048 key, as tpm2_readpublic -f tss writes it: it is no TPM2B_PUBLIC',
    ],
    [
      'with another storage root key',
      tpm({ endorsementKey, storageRootKey: 'AAAB' }),
      'attestation.tpm.storageRootKey',
      'it is no TPM2B_PUBLIC',
    ],
    [
      'with a key of another kind',
      tpm({ endorsementKey, primaryKey: 'x' }),
      'attestation.tpm.primaryKey',
      'not a known key',
    ],
    [
      'beside a symmetric key',
      individual({ attestation: { tpm: { endorsementKey }, symmetricKey: {} } }),
      'attestation',
      'must have one attestation, not 2',
    ],
    [
      'under another type',
      individual({ attestation: { type: 'x509', tpm: { endorsementKey } } }),
      'attestation.type',
      'the attestation beside it is "tpm"',
    ],
  ])('a TPM %s', (_what, config, path, message) => {
    const problem = problemOf(config);
    expect(problem.option).toBe(`enrollments[0].${path}`);
    expect(problem.message).toContain(message);
  });

  it('a TPM in a group', () => {
    const enrollmentGroups = [{ enrollmentGroupId: 'g', attestation: { tpm: { endorsementKey } } }];
    expect(problemOf({ enrollmentGroups })).toMatchObject({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      option: 'enrollmentGroups[0].attestation.tpm',
      message: expect.stringContaining('a TPM can only be enrolled alone'),
    });
  });

  it.each<[string, object, string]>([
    ['no attestation by type', individual({ attestation: { type: 'none' } }), 'enrollments[0].attestation'],
    ['custom allocation', individual({ allocationPolicy: 'custom' }), 'enrollments[0].allocationPolicy'],
    [
      'a webhook',
      individual({ customAllocationDefinition: { webhookUrl: 'x' } }),
      'enrollments[0].customAllocationDefinition',
    ],
  ])('says plainly that %s is not offered yet', (_what, config, path) => {
    const problem = problemOf(config);
    expect(problem).toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED', option: path });
    expect(problem.message).toContain('not offer');
  });

  it('never repeats a key', () => {
    for (const primaryKey of ['c2VjcmV0', `${DEVICE_KEY}!`]) {
      const problem = problemOf(individual({ attestation: { symmetricKey: { primaryKey } } }));
      expect(problem.message).toBe(
        'enrollments[0].attestation.symmetricKey.primaryKey must be Base64 of 16 to 64 bytes.',
      );
    }
    const privateKey = leaf.privateKeyPem;
    const problem = problemOf({ tls: { certificateAuthority: { certificate: { file: 'ca.pem' }, privateKey } } });
    expect(problem.message).toBe('tls.certificateAuthority.privateKey does not belong to the certificate beside it.');
    expect(JSON.stringify(problem)).not.toContain(privateKey.slice(60, 90));
  });
});

describe('entries with the same id', () => {
  it('are refused with both places', () => {
    const enrollments = [
      { registrationId: 'a', attestation: key },
      { registrationId: 'Dev-1', attestation: key },
      { registrationId: 'dev-1', attestation: key },
    ];
    expect(problemOf({ enrollments })).toMatchObject({
      option: 'enrollments[2].registrationId',
      message:
        'enrollments[2].registrationId is "dev-1", which enrollments[1].registrationId is already (case does not count): remove one of them.',
    });
    const enrollmentGroups = [
      { enrollmentGroupId: 'g', attestation: key },
      { enrollmentGroupId: 'g', attestation: key },
    ];
    expect(problemOf({ scopes: [{ enrollmentGroups }] }).message).toContain(
      'scopes[0].enrollmentGroups[1].enrollmentGroupId is "g", which scopes[0].enrollmentGroups[0].enrollmentGroupId is already',
    );
    const certificate = { name: 'ca', certificate: { file: 'ca.pem' } };
    expect(problemOf({ certificates: [certificate, certificate] }).message).toContain('has the name "ca" twice');
  });

  it('are welcome in different scopes, and as device and group', () => {
    const scope = {
      enrollments: [{ registrationId: 'a', attestation: key }],
      enrollmentGroups: [{ enrollmentGroupId: 'a', attestation: key }],
    };
    expect(read({ scopes: [scope, { ...scope, idScope: '0neB' }] })).toHaveLength(2);
  });
});

describe('addresses', () => {
  const resolve = (config: object) => resolveConfig(config, '.');

  it('may have the brackets of IPv6', () => {
    expect(resolve({ host: '[::1]', hostName: '[::1]', tls: { names: ['[fe80::1]', '192.0.2.1'] } })).toMatchObject({
      host: '::1',
      hostName: '[::1]',
      serverNames: ['fe80::1', '192.0.2.1'],
    });
  });

  it.each([
    [{ host: '[127.0.0.1]' }, 'host'],
    [{ host: '[::1]:8883' }, 'host'],
    [{ host: 'https://x' }, 'host'],
    [{ hostName: 'x:8883' }, 'hostName'],
    [{ hostName: '::1' }, 'hostName'],
    [{ tls: { names: ['a b'] } }, 'tls.names[0]'],
  ])('are refused as %j', (config, option) => {
    expect(problemOf(config)).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option });
  });
});

describe('what is no file', () => {
  it.each(['pipe', 'sub', '/dev/zero'])('is not read: %s', (name) => {
    const path = join(folder, 'odd');
    rmSync(path, { recursive: true, force: true });
    mkdirSync(join(path, 'sub'), { recursive: true });
    execFileSync('mkfifo', [join(path, 'pipe')]);
    const file = name.startsWith('/') ? name : join(path, name);
    const kind = name === 'sub' ? 'is a folder' : 'is a device, pipe or socket';
    expect(() => loadEmulatorConfig(file)).toThrow(kind);
    const problem = problemOf({ certificates: [{ name: 'ca', certificate: { file } }] });
    expect(problem).toMatchObject({ code: 'ERR_DPS_CONFIG_FILE', option: 'certificates[0].certificate.file' });
    expect(problem.message).toContain(`${file} ${kind}`);
  });
});
