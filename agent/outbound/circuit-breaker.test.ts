import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CircuitBreakers, CircuitOpen, isExternalHost, isRegistryDown, listRegistries } from './circuit-breaker.ts';

beforeEach(() => vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => vi.useRealTimers());

const broken = new Error('broken');
const fails = (circuits: CircuitBreakers, error: unknown = broken) =>
  circuits
    .execute(
      'github',
      () => Promise.reject(error),
      one => one === broken,
    )
    .catch((one: unknown) => one);

describe('a circuit', () => {
  it('opens after five failures in a row, and lets one through after a minute', async () => {
    const circuits = new CircuitBreakers();
    for (let n = 0; n < 5; n++) expect(await fails(circuits)).toBe(broken);
    const open = await fails(circuits);
    expect(open).toBeInstanceOf(CircuitOpen);
    expect((open as CircuitOpen).open).toEqual({
      name: 'github',
      failures: 5,
      until: new Date(Date.now() + 60_000),
    });
    expect(circuits.states()).toEqual([{ name: 'github', state: 1 }]);
    vi.setSystemTime(Date.now() + 60_000);
    expect(circuits.states()).toEqual([{ name: 'github', state: 0.5 }]);
    expect(await fails(circuits)).toBe(broken);
    expect(await fails(circuits)).toBeInstanceOf(CircuitOpen);
    vi.setSystemTime(Date.now() + 60_000);
    expect(
      await circuits.execute(
        'github',
        async () => 'works',
        () => true,
      ),
    ).toBe('works');
    expect(circuits.states()).toEqual([]);
  });

  it('stays closed for what is no fault of the other side, and after a success begins to count again', async () => {
    const circuits = new CircuitBreakers();
    for (let n = 0; n < 9; n++) await fails(circuits, new Error('not found'));
    expect(circuits.states()).toEqual([]);
    for (let n = 0; n < 4; n++) await fails(circuits);
    await circuits.execute(
      'github',
      async () => undefined,
      () => true,
    );
    for (let n = 0; n < 4; n++) expect(await fails(circuits)).toBe(broken);
    expect(circuits.states()).toEqual([{ name: 'github', state: 0 }]);
  });

  it('is one of its own for each name, and there are not endlessly many', async () => {
    const circuits = new CircuitBreakers();
    for (let n = 0; n < 600; n++) await circuits.failed(`registry ${n}`);
    expect(circuits.states()).toHaveLength(500);
    expect(circuits.open('registry 1')).toBeUndefined();
  });
});

describe('what a circuit is for', () => {
  it('is a registry, by the images that are pulled', () => {
    expect(listRegistries(['nginx', 'library/nginx:1', 'ghcr.io/a/b@sha256:1', 'localhost/x', 'r:5000/x'])).toEqual([
      'docker.io',
      'ghcr.io',
      'localhost',
      'r:5000',
    ]);
  });

  it('is an address outside of this host', () => {
    expect(['127.0.0.1', '::1', 'web', 'localhost', '10.0.0.5', 'example.org', 'fd7a::1'].map(isExternalHost)).toEqual([
      ...[false, false, false, false],
      ...[true, true, true],
    ]);
  });

  it.each([
    ['dial tcp 10.0.0.1:443: connect: connection refused', true],
    ['received unexpected HTTP status: 503 Service Unavailable', true],
    ['toomanyrequests: You have reached your pull rate limit', true],
    ['manifest for nginx:9.9 not found: manifest unknown', false],
    ['pull access denied for secret, repository does not exist or may require "docker login"', false],
  ])('is open by what does not work, not by what is not there: %s', (output, down) => {
    expect(isRegistryDown(output)).toBe(down);
  });
});
