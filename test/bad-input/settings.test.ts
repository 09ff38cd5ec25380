import { join } from 'node:path';
import { describe, it } from 'vitest';
import { issueCertificate } from '../../src/emulator/index.js';
import { check, devices, emulator, folder, perform, type Row, run, stage, usual } from './bench.js';

const PEM_CUT = '-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n';

/** Rows that the device settles by itself: identity, flags, configuration, environment. */
const ROWS: readonly Row[] = [
  {
    name: 'expired certificate',
    exit: 71,
    code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED',
    says: /expired/i,
    args: ({ certified }) => certified({ notAfterMs: Date.UTC(2026, 1, 1) }),
  },
  {
    name: 'key of another certificate',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_MISMATCH',
    args: async ({ certified, file }) => {
      const other = await issueCertificate(devices, { commonName: 'other', usage: 'client' });
      return [...(await certified()), '--cert-key-file', file('other.key', other.privateKeyPem)];
    },
  },
  {
    name: 'common name that is no registration id',
    exit: 71,
    code: 'ERR_DPS_HSM_REGISTRATION_ID',
    args: ({ certified }) => certified({ commonName: 'not a registration id' }),
  },
  {
    name: 'PEM cut short',
    exit: 71,
    code: 'ERR_DPS_HSM_CERTIFICATE_INVALID',
    args: async ({ certified, file }) => [...(await certified()), '--cert-file', file('cut.pem', PEM_CUT)],
  },
  {
    name: 'key file that is no key',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_INVALID',
    args: async ({ certified, file }) => [...(await certified()), '--cert-key-file', file('no.key', 'nothing')],
  },
  {
    name: 'key that is not Base64',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_INVALID',
    args: ({ enrolled, file }) => [...enrolled(), '--symmetric-key-file', file('bad', 'not/base64!')],
  },
  {
    name: 'world-readable key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_MODE',
    says: /chmod 600/,
    args: ({ enrolled, file }) => [
      ...enrolled(),
      '--symmetric-key-file',
      file('open', Buffer.alloc(32).toString('base64'), 0o644),
    ],
  },
  {
    name: 'missing key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key-file', join(folder, 'nowhere')],
  },
  {
    name: 'folder instead of a key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key-file', folder],
  },
  {
    name: 'illegal registration id',
    exit: 64,
    code: /.*/,
    args: ({ enrolled }) => [...enrolled(), '--registration-id', 'a b'],
  },
  {
    name: 'unknown flag',
    exit: 64,
    code: /.*/,
    says: /--id-scope/,
    args: ({ enrolled }) => [...enrolled(), '--id-skope', 'x'],
  },
  {
    name: 'a key as a flag’s value',
    exit: 64,
    code: /.*/,
    says: /file/,
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key', 'c2VjcmV0'],
  },
  {
    name: 'unknown configuration key',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    says: /idScope/,
    args: ({ enrolled, file }) => [...enrolled(), '--config', file('config.json', '{"idScop":"x"}')],
  },
  {
    name: 'configuration that is not JSON',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    args: ({ enrolled, file }) => [...enrolled(), '--config', file('config.json', '{')],
  },
  {
    name: 'configuration nested without end',
    exit: 78,
    code: /^ERR_DPS_CONFIG/,
    args: ({ file }) => ['--config', file('deep.json', '['.repeat(200_000))],
  },
  {
    name: 'configuration with a key of 900 kB',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    args: ({ file }) => ['--config', file('long.json', `{"${'k'.repeat(900_000)}":1}`)],
  },
  {
    name: 'damaged certificate after a good one in the CA file',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /Certificate 2 in /,
    args: ({ enrolled, file }) => {
      const { caPem } = emulator;
      return [...enrolled(), '--ca-file', file('ca.pem', `${caPem}${caPem.replace(/MII.{8}/, 'MII')}`)];
    },
  },
  {
    name: 'connection file in a folder that is missing',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /does not exist/,
    args: ({ device, enrolled }) => [...enrolled(), '--write-connection', join(folder, device, 'connection')],
  },
  {
    name: 'folder of systemd credentials that is a file',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /CREDENTIALS_DIRECTORY/,
    env: { CREDENTIALS_DIRECTORY: '/dev/null' },
    args: ({ device }) => ['--registration-id', device],
  },
  {
    name: 'unknown transport',
    exit: 64,
    code: /.*/,
    args: ({ enrolled }) => [...enrolled(), '--transport', 'carrier-pigeon'],
  },
  {
    name: 'start spread of more than a day',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /from 0 to 86400/,
    args: ({ enrolled }) => [...enrolled(), '--start-spread', '1e9'],
  },
  {
    name: 'unknown environment variable',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    says: /DPS_ID_SCOPE/,
    env: { DPS_ID_SCOP: 'x' },
    args: ({ enrolled }) => enrolled(),
  },
];

describe.concurrent('what a device was given', () => {
  it.each(ROWS.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row));

  it('a key file of another user is refused with the fix', async () => {
    const { enrolled, file } = stage();
    const args = [
      ...usual(),
      ...enrolled(),
      '--symmetric-key-file',
      file('locked', Buffer.alloc(32).toString('base64'), 0o000),
    ];
    // root may read everything, unless it gives that right up.
    const asAnyone = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : [];
    const ended = await run(args, {}, asAnyone);
    check({ name: '', exit: 71, code: 'ERR_DPS_HSM_FILE_UNREADABLE', args: () => [] }, ended);
  });
});
