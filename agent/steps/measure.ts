import { inspectAll } from '../outbound/docker.ts';
import { composeLabel } from '../plan/containers.ts';
import type { MeasureStep } from '../plan/plan.ts';
import { retryWhenEngineAnswers } from './engine-retry.ts';
import { listContainers } from './health.ts';
import type { StepContext, StepExecution } from './runner.ts';

export function runMeasure(step: MeasureStep, context: StepContext): StepExecution {
  return retryWhenEngineAnswers(context, () => measureImages(step, context));
}

async function* measureImages({ project }: MeasureStep, { engine }: StepContext): StepExecution {
  const containers = await inspectAll(engine, await listContainers(engine, project));
  const seen = containers
    .filter(({ listed }) => listed.State !== 'created')
    .map(({ listed, inspected }) => ({
      service: composeLabel(listed, 'service'),
      container: listed.Id,
      reference: inspected.Config.Image,
      image: inspected.Image,
    }));
  for (const { service, reference, image } of seen) yield { text: `${service}: ${reference} ${image.slice(0, 19)}\n` };
  return { outcome: 'succeeded', seen };
}
