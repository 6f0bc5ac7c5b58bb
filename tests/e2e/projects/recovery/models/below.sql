select gate.* from {{ ref("gate") }} as gate cross join {{ ref("first") }}
