import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CircuitBreakers, CircuitOpen, isExternalHost, isRegistryDown } from './circuit-breaker.ts';

beforeEach(() => vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => vi.useRealTimers());

const broken = new Error('broken');
const fails = (circuits: CircuitBreakers, error: unknown = broken) =>
  circuits
    .execute(
      'github',
      () => Promise.reject(error),
      thrown => thrown === broken,
    )
    .catch((thrown: unknown) => thrown);

describe('CircuitBreakers', () => {
  it('opens a circuit after five failures in a row, and lets a request through after a minute', async () => {
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

  it("does not count errors that are not the service's fault, and counts from zero after a success", async () => {
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

  it('keeps one circuit for each name, and at most 500', async () => {
    const circuits = new CircuitBreakers();
    for (let n = 0; n < 600; n++) circuits.failed(`registry ${n}`);
    expect(circuits.states()).toHaveLength(500);
    expect(circuits.open('registry 1')).toBeUndefined();
  });
});

describe('the names of circuits', () => {
  it('come from external hosts only, not from loopback or services', () => {
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
  ])('tells a registry that fails from an image that is missing: %s', (output, down) => {
    expect(isRegistryDown(output)).toBe(down);
  });
});
