import { normalize } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findRoot, isUnder } from './paths.ts';

const segment = fc.stringMatching(/^[a-c.]{1,3}$/).filter(name => !/^\.{1,2}$/.test(name));
const climbing = fc.oneof(segment, fc.constantFrom('..', '.', ''));
const absolute = (segments: string[]) => `/${segments.join('/')}`;

describe('isUnder', () => {
  it.each([
    ['/srv/stacks', '/srv/stacks'],
    ['/srv/stacks/', '/srv/stacks'],
    ['/srv/stacks', '/srv/stacks/'],
    ['/srv/stacks/web', '/srv/stacks'],
    ['/srv/stacks/web', '/srv/stacks/'],
    ['/srv//stacks/./web', '/srv/stacks'],
    ['/srv/stacks/a/../web', '/srv/stacks'],
    ['/srv/other/../stacks/web', '/srv/stacks'],
    ['/srv/stacks/..web', '/srv/stacks'],
    ['/srv/stacks/...', '/srv/stacks'],
    ['/anything', '/'],
    ['/', '/'],
    ['/../..', '/'],
  ])('accepts %s under %s', (path, root) => {
    expect(isUnder(path, root)).toBe(true);
  });

  it.each([
    ['a prefix that is another name', '/srv/stacks-evil', '/srv/stacks'],
    ['a prefix that is another name, with a trailing slash', '/srv/stacks-evil/', '/srv/stacks/'],
    ['a shorter name', '/srv/stack', '/srv/stacks'],
    ['the parent of the root', '/srv', '/srv/stacks'],
    ['the root of the file system', '/', '/srv/stacks'],
    ['a climb out of the root', '/srv/stacks/..', '/srv/stacks'],
    ['a climb into a neighbor', '/srv/stacks/../secrets', '/srv/stacks'],
    ['a climb from deep below', '/srv/stacks/a/b/../../../secrets', '/srv/stacks'],
    ['a climb above the root of the file system', '/srv/stacks/../../../../etc', '/srv/stacks'],
    ['a climb behind empty segments', '/srv/stacks//..//x', '/srv/stacks'],
    ['another case', '/SRV/stacks/web', '/srv/stacks'],
    ['a backslash in place of a slash', '/srv\\stacks\\web', '/srv/stacks'],
    ['a relative path', 'srv/stacks/web', '/srv/stacks'],
    ['a relative root', '/srv/stacks/web', 'srv/stacks'],
    ['an empty path', '', '/'],
    ['an empty root', '/srv', ''],
  ])('refuses %s', (_attack, path, root) => {
    expect(isUnder(path, root)).toBe(false);
  });

  it('accepts every path that is appended to the root', () => {
    fc.assert(
      fc.property(fc.array(segment), fc.array(segment), fc.boolean(), (root, below, slash) => {
        expect(isUnder(absolute([...root, ...below]), absolute(root) + (slash ? '/' : ''))).toBe(true);
      }),
    );
  });

  it('agrees with the normalized spelling of the path, however it climbs', () => {
    fc.assert(
      fc.property(fc.array(climbing), fc.array(segment, { minLength: 1 }), (path, root) => {
        const normalized = `${normalize(absolute(path)).replace(/\/+$/, '')}/`;
        expect(isUnder(absolute(path), absolute(root))).toBe(normalized.startsWith(`${absolute(root)}/`));
      }),
    );
  });

  it('refuses a root whose last name is longer or shorter', () => {
    fc.assert(
      fc.property(fc.array(segment), segment, segment, fc.array(segment), (root, name, more, below) => {
        expect(isUnder(absolute([...root, name + more, ...below]), absolute([...root, name]))).toBe(false);
        expect(isUnder(absolute([...root, name, ...below]), absolute([...root, name + more]))).toBe(false);
      }),
    );
  });
});

describe('findRoot', () => {
  it('returns the nearest root that holds the path', () => {
    expect(findRoot('/b/x', ['/a', '/b'])).toBe('/b');
    expect(findRoot('/b/c/x', ['/', '/b', '/b/c/', '/b/x'])).toBe('/b/c/');
  });

  it('returns a root that does not hold the path if none does', () => {
    expect(findRoot('/bb/x', ['/a', '/b'])).toBe('/a');
    expect(findRoot('/bb/x', [])).toBe('/nowhere');
  });
});
