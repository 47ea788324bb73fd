import { describe, expect, it } from 'vitest';
import { composeContainersPath, composeLabel } from './containers.ts';

const FOLDER = ['com.docker.compose.project.working_dir=/opt/stacks/web', 'com.docker.compose.oneoff=False'];

function parse(path: string): { all: string | null; filters: unknown } {
  const url = new URL(path, 'http://docker');
  expect(url.pathname).toBe('/containers/json');
  return { all: url.searchParams.get('all'), filters: JSON.parse(url.searchParams.get('filters') ?? '') };
}

describe('the query for the containers of a compose project', () => {
  it('finds running and stopped containers by the folder of the project', () => {
    expect(parse(composeContainersPath({ dir: '/opt/stacks/web' }))).toEqual({ all: '1', filters: { label: FOLDER } });
  });

  it('names the project if two projects share the folder', () => {
    expect(parse(composeContainersPath({ dir: '/opt/stacks/web', name: 'web-green' }))).toEqual({
      all: '1',
      filters: { label: [...FOLDER, 'com.docker.compose.project=web-green'] },
    });
  });

  it('leaves stopped containers out if only running ones are wanted', () => {
    expect(parse(composeContainersPath({ dir: '/opt/stacks/web' }, { running: true }))).toEqual({
      all: null,
      filters: { label: FOLDER, status: ['running'] },
    });
  });
});

describe('a label of compose', () => {
  it('is empty if the container has no such label', () => {
    const container = { Labels: { 'com.docker.compose.service': 'app' } };
    expect(composeLabel(container, 'service')).toBe('app');
    expect(composeLabel(container, 'project')).toBe('');
  });
});
