import { describe, expect, it } from 'vitest';
import { nearestName } from '../src/nearest-name.js';

describe('nearestName', () => {
  it('finds what a slip of the finger was meant for', () => {
    expect(nearestName('id-scop', ['endpoint', 'id-scope'])).toBe('id-scope');
    expect(nearestName('IDSCOPE', ['endpoint', 'id-scope'])).toBe('id-scope');
    expect(nearestName('nonsense', ['endpoint', 'id-scope'])).toBeUndefined();
  });

  it('compares nothing longer than a name: it would take the square of the length', () => {
    expect(nearestName('n'.repeat(64), ['n'.repeat(63)])).toBe('n'.repeat(63));
    expect(nearestName('n'.repeat(65), ['n'.repeat(64)])).toBeUndefined();
  });
});
