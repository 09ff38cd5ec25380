import { describe, it } from 'vitest';
import { mute, perform, portOf, proxy, type Row, SHORT, web } from './bench.js';

const ROWS: readonly Row[] = [
  {
    name: 'proxy that refuses connections',
    exit: 69,
    code: 'ERR_DPS_CONNECT',
    says: /It is the proxy on the way to/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'http://127.0.0.1:1', '--timeout', '3'],
  },
  {
    name: 'proxy that wants a password (407)',
    exit: 78,
    code: 'ERR_DPS_PROXY_AUTH',
    says: /user name and password/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(proxy)}`],
  },
  {
    name: 'proxy that wants another password (407)',
    exit: 78,
    code: 'ERR_DPS_PROXY_AUTH',
    says: /Check the user name and password/,
    env: { DPS_PROXY_PASSWORD: 'S3CRET' },
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://u@127.0.0.1:${portOf(proxy)}`],
  },
  {
    name: 'web server instead of a proxy',
    exit: 69,
    code: /^ERR_DPS_PROXY_(REFUSED|PROTOCOL)$/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'HTTP proxy addressed as SOCKS5',
    exit: 76,
    code: 'ERR_DPS_PROXY_PROTOCOL',
    says: /Check the scheme and the port/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `socks5://127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'proxy that accepts and stays mute',
    exit: 69,
    code: /^ERR_DPS_CONNECT_TIMEOUT$|^ERR_DPS_DEADLINE$/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(mute)}`, ...SHORT],
  },
  {
    name: 'proxy that is no URL',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /http:\/\/\[USER@\]HOST:PORT/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'ftp://???'],
  },
  {
    name: 'proxy in the environment that is no URL',
    exit: 78,
    code: 'ERR_DPS_CONFIG_OPTION',
    says: /HTTPS_PROXY/,
    env: { HTTPS_PROXY: 'ftp://proxy.example' },
    args: ({ enrolled }) => enrolled(),
  },
  {
    name: 'password in the proxy’s URL',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /--proxy-password-file/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'http://u:S3CRET@proxy.example'],
  },
  {
    name: 'password of a proxy that is not given',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /there is no --proxy/,
    env: { DPS_PROXY_PASSWORD: 'S3CRET' },
    args: ({ enrolled }) => enrolled(),
  },
];

describe.concurrent('a proxy', () => {
  it.each(ROWS.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row));
});
