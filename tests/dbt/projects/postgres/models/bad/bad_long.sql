select cast('{% for i in range(400) %}long-error-chunk-{{ i }} {% endfor %}' as integer) as x from {{ ref('raw_items') }}
