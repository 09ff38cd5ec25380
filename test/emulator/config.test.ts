import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { loadEmulatorConfig, resolveConfig } from '../../src/emulator/config.js';
import { ConfigurationError } from '../../src/errors.js';
import { authority, folder, key, leaf, read } from './config-bench.js';
import { DEVICE_KEY } from './tokens.js';

describe('defaults', () => {
  it('are one scope of eleven characters, one hub, no enrollments, loopback, TLS 1.2', () => {
    const config = resolveConfig({}, folder);
    expect(config).toMatchObject({
      host: undefined,
      hostName: 'localhost',
      mqttPort: 0,
      httpsPort: 0,
      maxVersion: 'TLSv1.2',
      retryAfterSeconds: 3,
    });
    expect(config.scopes).toHaveLength(1);
    expect(config.scopes[0]).toMatchObject({ idScope: '0ne00000000', allocationPolicy: 'hashed', enrollments: [] });
    expect(config.scopes[0]?.hubs).toMatchObject([{ name: 'hub-1', port: 0, allocationWeight: 1 }]);
  });
});

describe('faults', () => {
  it('may be on from the start', () => {
    const fault = {
      at: 'dps.register',
      action: [{ kind: 'respond', status: 429, body: null }],
      times: 2,
      skip: 1,
      when: { device: 'dev-1' },
    };
    expect(resolveConfig({ faults: [fault] }, folder).faults).toEqual([fault]);
  });
});

describe('enrollments', () => {
  it('generates keys of 64 bytes where none are given', () => {
    const [scope] = read({
      enrollments: [
        { registrationId: 'a', attestation: { symmetricKey: {} } },
        { registrationId: 'b', attestation: { type: 'symmetricKey' } },
      ],
    });
    for (const enrollment of scope?.enrollments() ?? []) {
      const { primaryKey = '', secondaryKey = '' } = enrollment.attestation.symmetricKey ?? {};
      expect(Buffer.from(primaryKey, 'base64')).toHaveLength(64);
      expect(Buffer.from(secondaryKey, 'base64')).toHaveLength(64);
    }
  });

  it('takes what the service exports', () => {
    const exported = {
      registrationId: 'dev-1',
      deviceId: null,
      registrationState: null,
      etag: '"x"',
      createdDateTimeUtc: '2024-05-01T10:00:00.1234567Z',
      attestation: {
        type: 'x509',
        x509: {
          clientCertificates: {
            primary: { certificate: { file: 'leaf.pem' }, info: { subjectName: 'CN=dev-1' } },
            secondary: null,
          },
        },
      },
      capabilities: { iotEdge: true },
      initialTwin: { tags: { $version: 1, line: 1 }, properties: { desired: { $metadata: {}, fan: 'on' } } },
      reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: false },
      provisioningStatus: 'disabled',
      optionalDeviceInformation: { serial: '1' },
    };
    const [scope] = read({ enrollments: [exported] });
    expect(scope?.enrollments()).toEqual([
      {
        registrationId: 'dev-1',
        attestation: { type: 'x509', x509: { clientCertificates: { primary: { certificate: leaf.certificatePem } } } },
        capabilities: { iotEdge: true },
        initialTwin: { tags: { line: 1 }, properties: { desired: { fan: 'on' } } },
        reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: false },
        provisioningStatus: 'disabled',
        optionalDeviceInformation: { serial: '1' },
      },
    ]);
  });

  it('takes certificates as PEM, as Base64 of DER, from files and by reference', () => {
    const der = authority.certificatePem.replace(/-----[^-]+-----|\s/g, '');
    const groups = [
      { certificate: authority.certificatePem },
      { certificate: der },
      { certificate: { file: 'ca.pem' } },
    ];
    const [scope] = read({
      certificates: [{ name: 'the-ca', certificate: { file: 'ca.pem' } }],
      enrollmentGroups: [
        ...groups.map((primary, index) => ({
          enrollmentGroupId: `g${index}`,
          attestation: { x509: { signingCertificates: { primary } } },
        })),
        { enrollmentGroupId: 'ref', attestation: { x509: { caReferences: { secondary: 'the-ca' } } } },
      ],
    });
    const pems = scope
      ?.enrollmentGroups()
      .map(({ attestation }) => attestation.x509?.signingCertificates?.primary?.certificate);
    expect(pems).toEqual([authority.certificatePem, authority.certificatePem, authority.certificatePem, undefined]);
    expect(scope?.enrollmentGroups()[3]?.attestation.x509?.caReferences).toEqual({ primary: 'the-ca' });
  });

  it('can be updated member by member, and replaced', () => {
    const [scope] = read({ enrollments: [{ registrationId: 'Dev-1', attestation: key }] });
    const before = scope?.enrollments()[0]?.attestation.symmetricKey?.secondaryKey;
    expect(scope?.updateEnrollment('dev-1', { provisioningStatus: 'disabled' })).toMatchObject({
      registrationId: 'Dev-1',
      provisioningStatus: 'disabled',
      attestation: { symmetricKey: { primaryKey: DEVICE_KEY, secondaryKey: before } },
    });
    // A key that is not given in the replacement stays the one that was generated.
    expect(scope?.enroll({ registrationId: 'dev-1', attestation: key }).attestation.symmetricKey?.secondaryKey).toBe(
      before,
    );
    expect(scope?.enrollments()).toHaveLength(1);
    expect(() => scope?.updateEnrollment('nobody', {})).toThrow(ConfigurationError);
    expect(scope?.removeEnrollment('DEV-1')).toBe(true);
    expect(scope?.removeEnrollment('dev-1')).toBe(false);
  });
});

describe('a configuration file', () => {
  it('is read with the folder that it names files from', () => {
    const file = join(folder, 'emulator.json');
    writeFileSync(file, '\uFEFF{"idScope":"0ne11111111"}');
    expect(loadEmulatorConfig(file)).toEqual({ config: { idScope: '0ne11111111' }, baseDirectory: folder });
  });

  it('is refused when it is not there, or no JSON', () => {
    const file = join(folder, 'broken.json');
    writeFileSync(file, '{');
    for (const name of [file, join(folder, 'nowhere.json')]) {
      expect(() => loadEmulatorConfig(name)).toThrow(
        expect.objectContaining({ code: 'ERR_DPS_CONFIG_FILE', option: name }),
      );
    }
  });

  it.each([
    ['c2VjcmV0IGtleQ==', 'is not JSON.'],
    ['-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGtleQ==\n', /is not JSON; see line 1, column 2\.$/],
    ['{"idScope":"0ne1",\n "key":"c2VjcmV0IGtleQ==" x}', /is not JSON; see line 2, column 27\.$/],
  ])('that is something else is refused without a word of it (%j)', (content, message) => {
    const file = join(folder, 'key');
    writeFileSync(file, content);
    const refused = (): unknown => loadEmulatorConfig(file);
    expect(refused).toThrow(message);
    let problem: unknown;
    try {
      refused();
    } catch (error) {
      problem = error;
    }
    const shown = inspect(problem, { depth: 9, showHidden: true });
    for (const part of ['c2Vj', 'BEGIN', '0ne1']) expect(shown).not.toContain(part);
  });
});
