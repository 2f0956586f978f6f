import type { CommonConfig } from './types.js';

/** Whether a task is prompted raw by `no_template_tasks`: one of the names is part of its id, in any case. */
export function isNoTemplateTask(
  config: Pick<CommonConfig, 'noTemplateTasks'>,
  taskId: string,
): boolean {
  const list = config.noTemplateTasks;
  return list === 'all' || list.some((name) => taskId.toLowerCase().includes(name.toLowerCase()));
}
