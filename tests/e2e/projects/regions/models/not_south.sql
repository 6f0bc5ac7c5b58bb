select region{% if var('region', 'nowhere') == 'south' %}, no_such_column{% endif %} from {{ ref('named') }}
