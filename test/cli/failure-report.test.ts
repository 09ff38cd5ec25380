import { describe, expect, it } from 'vitest';
import { UsageError } from '../../src/cli/cli-errors.js';
import { describeFailure } from '../../src/cli/failure-report.js';
import { ConfigurationError, DeadlineError, ServiceError, TransportError } from '../../src/errors.js';
import { PACKAGE_VERSION } from '../../src/version.js';

const UNAUTHORIZED = new ServiceError({
  code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
  message: 'The service refused the credentials. Compare the key with the enrollment.',
  service: 'dps',
  status: 401,
  errorCode: 401002,
  trackingId: 'b3990321-aaaa',
});

describe('describeFailure', () => {
  it('says code, message, where, tracking id and status', () => {
    expect(
      describeFailure(UNAUTHORIZED, 77, {
        lines: { identity: 'symmetric key from DPS_SYMMETRIC_KEY' },
        optionNames: new Map(),
      }).text.split('\n'),
    ).toEqual([
      'error ERR_DPS_SERVICE_UNAUTHORIZED: The service refused the credentials. Compare the key with the enrollment.',
      '  service:        dps',
      '  status:         401',
      '  error code:     401002',
      '  tracking id:    b3990321-aaaa',
      '  identity:       symmetric key from DPS_SYMMETRIC_KEY',
      '  try again:      only after something has been changed',
      '  exit status:    77 (the credentials were refused, or the enrollment is disabled)',
    ]);
  });

  it('says the same to a machine', () => {
    expect(describeFailure(UNAUTHORIZED, 77).event).toEqual({
      type: 'error',
      name: 'ServiceError',
      code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
      message: 'The service refused the credentials. Compare the key with the enrollment.',
      retryable: false,
      exitStatus: 77,
      service: 'dps',
      status: 401,
      errorCode: 401002,
      trackingId: 'b3990321-aaaa',
    });
  });

  it('follows the causes, also those of several addresses, and ends where they go round', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED ::1:8883'), { code: 'ECONNREFUSED' });
    const both = new AggregateError([refused, new Error('second')], 'all addresses failed');
    const connect = new TransportError({
      code: 'ERR_DPS_CONNECT',
      message: 'No connection.',
      phase: 'connect',
      peer: 'localhost:8883',
      retryable: true,
      cause: both,
    });
    refused.cause = both;
    const { text, event } = describeFailure(
      new DeadlineError({ state: 'connecting', deadlineMs: 5, cause: connect }),
      75,
    );
    expect(event.causes).toEqual([
      { name: 'TransportError', code: 'ERR_DPS_CONNECT', message: 'No connection.' },
      { name: 'AggregateError', code: undefined, message: 'all addresses failed' },
      { name: 'Error', code: 'ECONNREFUSED', message: 'connect ECONNREFUSED ::1:8883' },
      { name: 'Error', code: undefined, message: 'second' },
      { name: 'AggregateError', code: undefined, message: 'all addresses failed' },
    ]);
    expect(text).toContain('  caused by:      ERR_DPS_CONNECT: No connection.\n');
    // A word of the program's own; what was going on then, the message says.
    expect(text).not.toMatch(/^ *state:/m);
    expect(event).not.toHaveProperty('state');
    expect(text).toContain('  caused by:      connect ECONNREFUSED ::1:8883\n');
    expect(text).toContain('  caused by:      AggregateError: all addresses failed\n');
    expect(text).toContain('  flag:           --timeout SECONDS allows more time\n');
    expect(text).toContain('  try again:      later, it may help\n');
    expect(text).not.toContain('failure-report.test');
  });

  it.each([
    ['ENOENT', "ENOENT: no such file or directory, open 'x'", "ENOENT: no such file or directory, open 'x'"],
    ['EISDIR', 'EISDIR: illegal operation on a directory, read', 'EISDIR: illegal operation on a directory, read'],
    ['EACCES', "EACCES: permission denied, open 'x'", "EACCES: permission denied, open 'x'"],
    ['ENOSPC', 'ENOSPC: no space left on device, write', 'ENOSPC: no space left on device, write'],
    ['ECONNREFUSED', 'connect ECONNREFUSED ::1:8883', 'connect ECONNREFUSED ::1:8883'],
    ['ERR_SSL', 'certificate unknown', 'ERR_SSL: certificate unknown'],
  ])('says the code of a cause once (%s)', (code, message, expected) => {
    const cause = Object.assign(new Error(message), { code });
    const error = new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message: 'm', cause });
    expect(describeFailure(error, 78).text).toContain(`\n  caused by:      ${expected}\n`);
    expect(describeFailure(error, 78).event.causes).toEqual([{ name: 'Error', code, message }]);
  });

  it('speaks of options as their user knows them, in causes as well', () => {
    const name = {
      label: '--ca-file',
      place: '--ca-file ca.pem',
      usage: '--ca-file FILE',
      isFlag: true,
      isContent: true,
    };
    const context = { lines: {}, optionNames: new Map([['ca', name]]) };
    const error = new ConfigurationError({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: 'Option ca is wrong.',
      option: 'ca',
    });
    const { text, event } = describeFailure(error, 78, context);
    expect(text).toContain('error ERR_DPS_CONFIG_OPTION: --ca-file ca.pem is wrong.\n  option:         --ca-file\n');
    expect(event).toMatchObject({ message: '--ca-file ca.pem is wrong.', option: '--ca-file' });
    const outer = describeFailure(new DeadlineError({ state: 'connecting', deadlineMs: 5, cause: error }), 75, context);
    expect(outer.text).toContain('caused by:      ERR_DPS_CONFIG_OPTION: --ca-file ca.pem is wrong.\n');
    // What is not of this package is repeated as it is.
    const foreign = describeFailure(
      new DeadlineError({ state: 's', deadlineMs: 5, cause: new Error('option ca') }),
      75,
      context,
    );
    expect(foreign.text).toContain('Error: option ca\n');
  });

  it('lets no text of the service steer the terminal or fake a line', () => {
    const error = new ServiceError({
      code: 'ERR_DPS_SERVICE_BAD_REQUEST',
      message: 'Refused: \u001b[2J\nexit status: 0\u202e',
      service: 'dps',
      status: 400,
      trackingId: 'a\r\nb',
    });
    const { text } = describeFailure(error, 65);
    expect(text.split('\n')).toHaveLength(6);
    expect(text).toContain('Refused: \\u{1b}[2J\\u{a}exit status: 0\\u{202e}\n');
    expect(text).toContain('a\\u{d}\\u{a}b');
  });

  it('shows a stack for what is a bug of ours only, and says so', () => {
    const { text, event } = describeFailure(new TypeError('x is not a function'), 70);
    expect(text).toContain('This is a bug in dps-device. Please report it');
    expect(text).toContain(`dps-device ${PACKAGE_VERSION}, Node ${process.version}`);
    expect(text).toContain('failure-report.test');
    expect(event).toMatchObject({
      exitStatus: 70,
      version: PACKAGE_VERSION,
      stack: expect.stringContaining('TypeError'),
    });
    expect(describeFailure(UNAUTHORIZED, 77).event).not.toHaveProperty('stack');
  });

  it('says what the system had none left of', () => {
    const cause = Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
    const { text, event } = describeFailure(
      new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message: 'm', cause }),
      75,
    );
    expect(text).toContain('\n  shortage:       this process may not open more files. Raise its limit: ulimit -n');
    expect(text).toContain('  try again:      later, it may help\n');
    expect(event.retryable).toBe(true);
  });

  it('bears with what is no error', () => {
    expect(describeFailure('text', 70).text).toContain('Thrown was no error: string.');
  });

  it('keeps usage errors short', () => {
    expect(describeFailure(new UsageError('There is no flag --x.'), 64).text).toBe('error: There is no flag --x.');
  });
});
